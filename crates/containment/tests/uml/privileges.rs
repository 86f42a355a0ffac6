// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What takes privilege, where root has all of it: on a machine under test root may have less.

use proton_stream_containment::Specification;

use crate::attributes::{more_files, too_many_files};
use crate::host::{cases, sh, Host};

cases! {
    Root what_takes_privilege_is_had_with_it;
}

fn what_takes_privilege_is_had_with_it() {
    let mut host = Host::new();
    let show = "cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj; ulimit -Hn; \
                grep -o 'NoNewPrivs.*' /proc/self/status; id -u; id -G";
    let spec = Specification {
        nice: Some(-5),
        oom_score_adj: Some(-500),
        rlimits: vec![more_files()],
        no_new_privs: true,
        groups: Some(vec![b"7".to_vec()]),
        user: Some(b"nobody".to_vec()),
        ..sh(show)
    };
    let files = too_many_files();
    let expected = format!("-5\n-500\n{files}\nNoNewPrivs:\t1\n65534\n65534 7\n");
    assert_eq!(host.output(&spec), expected);
}
