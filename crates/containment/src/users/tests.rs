// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use std::os::fd::AsFd;

use super::*;

const PASSWD: &[u8] = b"\
root:x:0:0:root:/root:/bin/bash\n\
broken line\n\
:x:5:5::/:\n\
+@nis::::::\n\
# ann:x:1:1::/wrong:\n\
badnumber:x:0x10:1::/:\n\
minusone:x:4294967295:1::/:\n\
ann:x:1001:100:Ann,,,:/home/ann:/bin/sh\n\
bob:x:10:20::/home/bob\n\
1001:x:77:78:a name of digits:/seven:/bin/sh\n\
homeless:x:12:13:::\n\
last:x:14:15::/last:/bin/sh";

const GROUP: &[u8] = b"\
root:x:0:\n\
users:x:100:ann\n\
adm:x:4:syslog,ann\n\
annex:x:5:anna,bann\n\
nonsense\n\
sudo:x:27:ann,bob\n\
33:x:44:\n\
www:x:33:";

struct Files {
    directory: PathBuf,
    sources: Sources,
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn files(name: &str) -> Files {
    let directory =
        std::env::temp_dir().join(format!("proton-users-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let sources =
        Sources { passwd: directory.join("passwd"), group: directory.join("group"), getent: None };
    std::fs::write(&sources.passwd, PASSWD).expect("passwd");
    std::fs::write(&sources.group, GROUP).expect("group");
    Files { directory, sources }
}

fn spec(user: Option<&str>, group: Option<&str>, groups: Option<&[&str]>) -> Specification {
    Specification {
        user: user.map(Into::into),
        group: group.map(Into::into),
        groups: groups.map(|names| names.iter().map(|name| name.as_bytes().to_vec()).collect()),
        ..Default::default()
    }
}

fn ids(spec: &Specification, files: &Files) -> (Option<u32>, Option<u32>, Option<Vec<u32>>) {
    let found = resolve(spec, &files.sources, None).expect("resolved");
    (found.uid, found.gid, found.groups)
}

#[test]
fn a_user_brings_exactly_its_own_groups() {
    let files = files("own");
    assert_eq!(
        ids(&spec(Some("ann"), None, None), &files),
        (Some(1001), Some(100), Some(vec![100, 4, 27]))
    );
    assert_eq!(
        ids(&spec(Some("bob"), None, None), &files),
        (Some(10), Some(20), Some(vec![20, 27]))
    );
}

#[test]
fn a_name_comes_before_a_number_and_zeros_do_not_make_it_octal() {
    let files = files("number");
    assert_eq!(ids(&spec(Some("1001"), None, None), &files).0, Some(77));
    assert_eq!(ids(&spec(Some("010"), None, None), &files).0, Some(10));
    assert_eq!(ids(&spec(None, Some("33"), None), &files).1, Some(44));
    assert_eq!(ids(&spec(None, Some("034"), None), &files).1, Some(34));
}

#[test]
fn a_number_without_entry_needs_a_group() {
    let files = files("unknown");
    let error = resolve(&spec(Some("4242"), None, None), &files.sources, None)
        .expect_err("no group is known");
    assert_eq!((error.step, error.errno), (Step::Group, 0));
    assert_eq!(
        ids(&spec(Some("4242"), Some("www"), None), &files),
        (Some(4242), Some(33), Some(vec![33]))
    );
}

#[test]
fn names_that_nobody_has_are_told_apart() {
    let files = files("nobody");
    for (spec, step, name) in [
        (spec(Some("nobdy"), None, None), Step::User, "nobdy"),
        (spec(Some(""), None, None), Step::User, ""),
        (spec(Some("-1"), None, None), Step::User, "-1"),
        (spec(Some("+0"), None, None), Step::User, "+0"),
        (spec(Some("0x10"), None, None), Step::User, "0x10"),
        (spec(Some("4294967295"), None, None), Step::User, "4294967295"),
        (spec(Some("4294967296"), None, None), Step::User, "4294967296"),
        (spec(Some("minusone"), None, None), Step::User, "minusone"),
        (spec(Some("badnumber"), None, None), Step::User, "badnumber"),
        (spec(None, Some("wwww"), None), Step::Group, "wwww"),
        (spec(None, None, Some(&["www", "nope"])), Step::Groups, "nope"),
    ] {
        let error = resolve(&spec, &files.sources, None).expect_err("unknown");
        assert_eq!((error.step, error.errno), (step, 0), "{name}");
        assert_eq!(error.detail, name.as_bytes());
    }
}

#[test]
fn given_groups_replace_those_of_the_user() {
    let files = files("given");
    assert_eq!(
        ids(&spec(Some("ann"), Some("www"), Some(&["adm", "9"])), &files),
        (Some(1001), Some(33), Some(vec![4, 9]))
    );
    assert_eq!(
        ids(&spec(Some("ann"), None, Some(&[])), &files),
        (Some(1001), Some(100), Some(vec![]))
    );
}

#[test]
fn a_group_alone_comes_without_supplementary_groups() {
    let files = files("alone");
    assert_eq!(ids(&spec(None, Some("www"), None), &files), (None, Some(33), Some(vec![])));
}

#[test]
fn a_line_of_a_million_bytes_is_no_trouble() {
    let files = files("long");
    let mut group = b"big:x:9:".to_vec();
    group.extend(std::iter::repeat_n(b"someone,".as_slice(), 125_000).flatten());
    group.extend_from_slice(b"ann\n");
    std::fs::write(&files.sources.group, group).expect("group");
    assert_eq!(ids(&spec(Some("ann"), None, None), &files).2, Some(vec![100, 9]));
}

#[test]
fn a_home_that_is_empty_or_missing_is_the_root() {
    let files = files("home");
    let found = resolve(&spec(Some("homeless"), None, None), &files.sources, None);
    let account = found.expect("resolved").account.expect("an account");
    assert_eq!((account.name, account.home), (b"homeless".to_vec(), b"/".to_vec()));
}

/// Written by a shell of its own: were the file open for writing here, a fork of another test's
/// thread could hold it for a moment more, and executing it would fail with ETXTBSY.
fn script(files: &Files, body: &str) -> &'static str {
    let path = files.directory.join("getent");
    let written = std::process::Command::new("/bin/sh")
        .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&path)
        .arg(body)
        .status();
    assert!(written.is_ok_and(|status| status.success()));
    String::leak(path.to_str().expect("text").to_owned())
}

#[test]
fn what_the_files_do_not_have_is_asked_of_getent() {
    let mut files = files("getent");
    files.sources.getent = Some(script(
        &files,
        "case \"$1 $2 $3\" in\n\
         'passwd -- ldapuser') echo 'ldapuser:*:5000:5001::/net/ldapuser:/bin/sh' ;;\n\
         'initgroups -- ldapuser') echo 'ldapuser              5001 5002 4' ;;\n\
         'group -- ldapgroup') echo 'ldapgroup:*:6000:ldapuser' ;;\n\
         *) exit 2 ;;\n\
         esac",
    ));
    assert_eq!(
        ids(&spec(Some("ldapuser"), None, None), &files),
        (Some(5000), Some(5001), Some(vec![5001, 5002, 4]))
    );
    assert_eq!(ids(&spec(None, Some("ldapgroup"), None), &files).1, Some(6000));
    let error = resolve(&spec(Some("nobdy"), None, None), &files.sources, None);
    assert_eq!(error.expect_err("unknown").errno, 0);
}

#[test]
fn a_getent_that_hangs_is_given_up_after_its_deadline() {
    let mut files = files("hang");
    files.sources.getent = Some(script(&files, "exec sleep 60"));
    let error = resolve(&spec(Some("nobdy"), None, None), &files.sources, None);
    let error = error.expect_err("too late");
    assert_eq!((error.step, error.errno), (Step::User, libc::ETIMEDOUT));
}

#[test]
fn a_controller_that_hangs_up_ends_the_wait_for_getent() {
    let mut files = files("cancel");
    files.sources.getent = Some(script(&files, "exec sleep 60"));
    // Others start processes meanwhile.
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (reader, writer) = rustix::pipe::pipe_with(flags).expect("a pipe");
    drop(writer);
    let error = resolve(&spec(Some("nobdy"), None, None), &files.sources, Some(reader.as_fd()));
    assert_eq!(error.expect_err("cancelled").errno, libc::ECANCELED);
}
