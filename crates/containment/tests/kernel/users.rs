// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Programs under other users.

use std::process::{Command, Stdio};

use proton_stream_containment::{Rlimit, Specification, Step};

use crate::host::{bytes, cases, sh, Host};

cases! {
    Root a_program_of_nobody_has_exactly_the_ids_of_nobody;
    Root the_groups_of_the_parent_do_not_reach_another_user;
    Root given_groups_are_all_there_are;
    Root a_group_alone_leaves_no_supplementary_group;
    Root another_user_has_its_own_home_and_name;
    Root another_user_keeps_no_capability;
    Root a_directory_is_entered_with_the_rights_of_the_user;
    Root a_user_over_its_process_limit_is_an_error_of_the_start;
    Root without_privilege_another_user_is_refused_and_its_own_is_not;
}

fn nobody(script: &str) -> Specification {
    Specification { user: Some(b"nobody".to_vec()), directory: Some(b"/".to_vec()), ..sh(script) }
}

const IDS: &str = "grep -E '^(Uid|Gid|Groups)' /proc/self/status | tr -s ' \\t' ' '";

/// What `id` and the kernel say of nobody.
fn ids_of_nobody() -> String {
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, "nobody"]).output().expect("id");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let (uid, gid, groups) = (id("-u"), id("-g"), id("-G"));
    let four = |id: &str| [id; 4].join(" ");
    format!("Uid: {}\nGid: {}\nGroups: {groups} \n", four(&uid), four(&gid))
}

fn a_program_of_nobody_has_exactly_the_ids_of_nobody() {
    let mut host = Host::new();
    assert_eq!(host.output(&nobody(IDS)), ids_of_nobody());
    let uid = ids_of_nobody().split(' ').nth(1).expect("the uid").to_owned();
    let mut spec = nobody(IDS);
    spec.user = Some(format!("00{uid}").into_bytes());
    assert_eq!(host.output(&spec), ids_of_nobody());
}

fn the_groups_of_the_parent_do_not_reach_another_user() {
    let output = Command::new("setpriv")
        .args(["--groups", "4,27"])
        .arg(std::env::current_exe().expect("this executable"))
        .args(["--helper", "run-as-nobody", "/bin/sh", "-c", IDS])
        .stdin(Stdio::null())
        .output()
        .expect("setpriv");
    assert_eq!(String::from_utf8_lossy(&output.stdout), ids_of_nobody());
}

fn given_groups_are_all_there_are() {
    let mut host = Host::new();
    let mut spec = nobody("id -u; id -g; grep ^Groups /proc/self/status");
    spec.group = Some(b"daemon".to_vec());
    spec.groups = Some(bytes(&["adm", "12345"]));
    assert_eq!(host.output(&spec), "65534\n1\nGroups:\t4 12345 \n");
}

fn a_group_alone_leaves_no_supplementary_group() {
    let mut host = Host::new();
    let mut spec = sh("id -u; id -g; grep ^Groups /proc/self/status");
    spec.group = Some(b"daemon".to_vec());
    assert_eq!(host.output(&spec), "0\n1\nGroups:\t \n");
}

fn another_user_has_its_own_home_and_name() {
    let mut host = Host::new();
    let mut spec = nobody("echo $HOME $USER $LOGNAME");
    spec.inherited = b"HOME=/root\0USER=root\0LOGNAME=root".to_vec();
    assert_eq!(host.output(&spec), "/nonexistent nobody nobody\n");
    spec.set = bytes(&["HOME=/tmp"]);
    assert_eq!(host.output(&spec), "/tmp nobody nobody\n");
}

fn another_user_keeps_no_capability() {
    let mut host = Host::new();
    let output = host.output(&nobody("grep -E '^Cap(Eff|Prm|Amb)' /proc/self/status"));
    let sets: Vec<&str> = output.split_whitespace().filter(|word| !word.ends_with(':')).collect();
    assert_eq!(sets, ["0000000000000000"; 3], "{output}");
}

fn a_directory_is_entered_with_the_rights_of_the_user() {
    let path = std::env::temp_dir().join(format!("proton-private-{}", std::process::id()));
    std::fs::create_dir(&path).expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&path, mode).expect("its mode");
    let mut spec = nobody("pwd");
    spec.directory = Some(path.as_os_str().as_encoded_bytes().to_vec());
    let error = Host::new().refused(&spec);
    std::fs::remove_dir(&path).expect("removed");
    assert_eq!((error.step, error.errno), (Step::Directory, libc::EACCES));
}

fn a_user_over_its_process_limit_is_an_error_of_the_start() {
    let mut host = Host::new();
    // The kernel compares what the user has before this one.
    let _other = host.start(&nobody("read line"));
    let mut spec = nobody("echo never");
    spec.rlimits = vec![Rlimit { name: b"nproc".to_vec(), soft: Some(0), hard: Some(0) }];
    let error = host.refused(&spec);
    assert_eq!((error.step, error.errno), (Step::Exec, libc::EAGAIN));
}

fn without_privilege_another_user_is_refused_and_its_own_is_not() {
    // The executable may be in a directory that nobody can't enter: it is run by its descriptor.
    let try_as_nobody = |name: &str| {
        let output = Command::new("/bin/sh")
            .args(["-c", "exec 3<\"$1\"; shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups /proc/self/fd/3 \"$@\"", "sh"])
            .arg(std::env::current_exe().expect("this executable"))
            .args(["--helper", "as", name])
            .current_dir("/")
            .output()
            .expect("setpriv");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    assert_eq!(try_as_nobody("nobody"), "started\n");
    let refused = try_as_nobody("root");
    assert!(refused.contains("can't be taken on: root: Operation not permitted"), "{refused}");
}
