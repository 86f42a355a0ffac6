// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A small SVG by hand, in the colours of the other plots.

use crate::report::Part;

const WIDTH: usize = 760;
const PANEL: usize = 84;
const LEFT: usize = 190;
const LONGEST: f64 = 430.0;

/// A panel for each part, each with a scale of its own.
pub fn svg(parts: &[Part]) -> String {
    let height = 56 + PANEL * parts.len();
    let panels: String =
        parts.iter().enumerate().map(|(index, part)| panel(part, 52 + PANEL * index)).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\" fill=\"#1f2328\">proton-stream beside \
         tokio::process</text>\n{panels}</svg>\n"
    )
}

fn panel(part: &Part, top: usize) -> String {
    let mut bars = vec![("tokio::process", part.tokio, "#6e7781"), ("ours", part.ours, "#0072b2")];
    bars.extend(part.also.map(|(name, value)| (name, value, "#56b4e9")));
    let most = bars.iter().map(|(_, value, _)| *value).fold(0.0, f64::max);
    let mut drawn = format!(
        "<text x=\"16\" y=\"{}\" fill=\"#1f2328\">{}</text>\n\
         <text x=\"16\" y=\"{}\" fill=\"#59636e\" font-size=\"11\">{:.2} ×, target: {}</text>\n",
        top + 16,
        part.name,
        top + 33,
        part.ratio(),
        part.target(),
    );
    for (index, (name, value, colour)) in bars.iter().enumerate() {
        let y = top + 2 + 22 * index;
        let long = value / most * LONGEST;
        drawn += &format!(
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{long:.1}\" height=\"18\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#1f2328\" font-size=\"11\">{value:.1} {} \
             {name}</text>\n",
            LEFT as f64 + long + 6.0,
            y + 13,
            part.unit,
        );
    }
    drawn
}
