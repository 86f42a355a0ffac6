// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is told of a part.

/// One comparison: ours against tokio's.
pub struct Part {
    pub name: &'static str,
    pub unit: &'static str,
    pub tokio: f64,
    pub ours: f64,
    /// Another way of ours.
    pub also: Option<(&'static str, f64)>,
    /// Further figures, which nothing is promised of.
    pub more: Vec<(&'static str, f64)>,
    /// How many times tokio's ours may be at most, or must be at least.
    pub target: Target,
}

pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Part {
    pub fn ratio(&self) -> f64 {
        self.ours / self.tokio
    }

    pub fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(most) => self.ratio() <= most,
            Target::AtLeast(least) => self.ratio() >= least,
            Target::None => true,
        }
    }

    pub fn target(&self) -> String {
        match self.target {
            Target::AtMost(most) => format!("at most {most}"),
            Target::AtLeast(least) => format!("at least {least}"),
            Target::None => "none".to_owned(),
        }
    }

    fn others(&self) -> impl Iterator<Item = &(&'static str, f64)> {
        self.also.iter().chain(&self.more)
    }

    pub fn line(&self) -> String {
        let more: String =
            self.others().map(|(name, value)| format!(", {name} {value:.1}")).collect();
        format!(
            "{:<24} tokio {:>9.1} {unit}, ours {:>9.1} {unit}, ratio {:.2} (target: {}){}{more}",
            self.name,
            self.tokio,
            self.ours,
            self.ratio(),
            self.target(),
            if self.is_met() { "" } else { " MISSED" },
            unit = self.unit,
        )
    }
}

/// Names and units are plain words: nothing has to be escaped.
pub fn json(parts: &[Part]) -> String {
    let part = |part: &Part| {
        let more: String =
            part.others().map(|(name, value)| format!(", \"{name}\": {value:.3}")).collect();
        format!(
            "  {{\"name\": \"{}\", \"unit\": \"{}\", \"tokio\": {:.3}, \"proton_stream\": {:.3}, \
             \"ratio\": {:.3}, \"target\": \"{}\"{more}}}",
            part.name,
            part.unit,
            part.tokio,
            part.ours,
            part.ratio(),
            part.target()
        )
    };
    let parts: Vec<String> = parts.iter().map(part).collect();
    format!("[\n{}\n]", parts.join(",\n"))
}
