// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The program's environment, arguments, and the paths at which it may be. Byte for byte: what
//! was inherited is passed on even where it isn't `KEY=VALUE`.

use std::ffi::CString;

use crate::specification::Specification;
use crate::Error;

/// Where a program is looked for when its environment has no `PATH`, as `confstr(_CS_PATH)` has
/// it with the administrator's own programs first.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Whose environment it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: Vec<u8>,
    pub(crate) home: Vec<u8>,
}

/// Strings for the kernel, one after the other, each with a NUL at its end: an environment has
/// dozens, and one piece of memory for all costs less than one for each.
#[derive(Debug, Default)]
pub(crate) struct Block(Vec<u8>);

impl Block {
    /// Adds a string, in which there is no NUL.
    fn push(&mut self, string: &[u8]) {
        self.0.extend_from_slice(string);
        self.0.push(0);
    }

    /// The strings without their ends.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|byte| *byte == 0).map(|string| &string[..string.len() - 1])
    }

    /// All of them, with their ends.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A string for the kernel, which would cut it at a NUL.
pub(crate) fn terminated(bytes: &[u8], what: &str) -> Result<CString, Error> {
    CString::new(bytes).map_err(|error| has_nul(bytes, what, error.nul_position()))
}

fn has_nul(bytes: &[u8], what: &str, position: usize) -> Error {
    Error::specification(format!("{what} has a NUL byte at {position}: {}", shown(bytes)))
}

/// Bytes for a sentence: escaped, and no longer than a line.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(80);
    format!("\"{}\"", bytes.get(..end).unwrap_or_default().escape_ascii())
}

pub(crate) fn key(entry: &[u8]) -> &[u8] {
    entry.split(|&byte| byte == b'=').next().unwrap_or(entry)
}

/// What the program sees: the inherited entries without the unset keys, those of the account, and
/// what was set; later ones win.
pub(crate) fn environment(spec: &Specification, account: Option<&Account>) -> Result<Block, Error> {
    for entry in &spec.set {
        if key(entry).is_empty() || !entry.contains(&b'=') {
            // The value is left out: it may be a secret.
            return Err(Error::specification(format!(
                "an environment variable to be set has no key or no value: {}",
                shown(key(entry))
            )));
        }
    }
    for name in &spec.unset {
        if name.is_empty() || name.contains(&b'=') {
            return Err(Error::specification(format!(
                "an environment variable to be unset needs a key without \"=\": {}",
                shown(key(name))
            )));
        }
    }
    let mut later: Vec<Vec<u8>> = Vec::new();
    if let Some(account) = account {
        let named = |wanted: &[u8]| spec.unset.iter().any(|name| name == wanted);
        for (name, value) in [
            (b"HOME".as_slice(), &account.home),
            (b"USER", &account.name),
            (b"LOGNAME", &account.name),
        ] {
            if !named(name) {
                later.push([name, b"=", value].concat());
            }
        }
    }
    for entry in &spec.set {
        later.retain(|earlier| key(earlier) != key(entry));
        later.push(entry.clone());
    }
    let mut block = Block(Vec::with_capacity(spec.inherited.len() + 256));
    let are_all_kept = spec.unset.is_empty() && later.is_empty();
    let is_kept = |entry| {
        let key = key(entry);
        !spec.unset.iter().any(|name| name == key) && !later.iter().any(|set| self::key(set) == key)
    };
    for entry in spec.inherited.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        if are_all_kept || is_kept(entry) {
            block.push(entry);
        }
    }
    for entry in &later {
        if entry.contains(&0) {
            return Err(Error::specification(format!(
                "an environment variable has a NUL byte: {}",
                shown(key(entry))
            )));
        }
        block.push(entry);
    }
    Ok(block)
}

/// `argv`.
pub(crate) fn arguments(spec: &Specification) -> Result<Block, Error> {
    let first = spec.arg0.as_ref().unwrap_or(&spec.program);
    let mut block = Block::default();
    for (what, argument) in std::iter::once(("argv[0]", first))
        .chain(spec.arguments.iter().map(|argument| ("an argument", argument)))
    {
        if let Some(position) = argument.iter().position(|byte| *byte == 0) {
            return Err(has_nul(argument, what, position));
        }
        block.push(argument);
    }
    Ok(block)
}

/// The paths to try, in order: the program itself when it has a `/`, else one for each element of
/// the `PATH` in `environment`, of which an empty one is the current directory.
pub(crate) fn candidates(program: &[u8], environment: &Block) -> Result<Vec<CString>, Error> {
    if program.is_empty() {
        return Err(Error::specification("the program's name is empty"));
    }
    if program.contains(&b'/') {
        return Ok(vec![terminated(program, "the program")?]);
    }
    let path =
        environment.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(|&byte| byte == b':')
        .map(|directory| {
            let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            terminated(&[directory, separator, program].concat(), "the program")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<Vec<u8>> {
        list.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    fn merged(spec: &Specification, account: Option<&Account>) -> Vec<String> {
        environment(spec, account)
            .expect("a valid environment")
            .iter()
            .map(|entry| String::from_utf8(entry.to_vec()).expect("text"))
            .collect()
    }

    fn paths(program: &str, environment: &[&str]) -> Vec<String> {
        let mut block = Block::default();
        environment.iter().for_each(|entry| block.push(entry.as_bytes()));
        candidates(program.as_bytes(), &block)
            .expect("candidates")
            .into_iter()
            .map(|path| path.into_string().expect("text"))
            .collect()
    }

    #[test]
    fn set_wins_over_inherited_and_unset_removes_inherited_only() {
        let spec = Specification {
            inherited: b"A=1\0B=2\0C=3\0A=again".to_vec(),
            set: strings(&["A=x", "D=4", "D=5"]),
            unset: strings(&["B", "D"]),
            ..Default::default()
        };
        assert_eq!(merged(&spec, None), ["C=3", "A=x", "D=5"]);
    }

    #[test]
    fn a_key_that_begins_like_another_is_another() {
        let spec = Specification {
            inherited: b"AB=1\0A=2".to_vec(),
            unset: strings(&["A"]),
            ..Default::default()
        };
        assert_eq!(merged(&spec, None), ["AB=1"]);
    }

    #[test]
    fn bytes_that_are_no_text_pass_untouched() {
        let spec = Specification {
            inherited: b"K=a\xffb\0no equals sign\0".to_vec(),
            ..Default::default()
        };
        let entries = environment(&spec, None).expect("valid");
        let entries: Vec<&[u8]> = entries.iter().collect();
        assert_eq!(entries, [&b"K=a\xffb"[..], b"no equals sign"]);
    }

    #[test]
    fn a_user_brings_home_and_names_unless_they_are_given() {
        let account = Account { name: b"ann".to_vec(), home: b"/home/ann".to_vec() };
        let mut spec = Specification {
            inherited: b"HOME=/root\0USER=root\0X=1".to_vec(),
            ..Default::default()
        };
        assert_eq!(
            merged(&spec, Some(&account)),
            ["X=1", "HOME=/home/ann", "USER=ann", "LOGNAME=ann"]
        );
        spec.set = strings(&["HOME=/tmp"]);
        spec.unset = strings(&["USER"]);
        assert_eq!(merged(&spec, Some(&account)), ["X=1", "LOGNAME=ann", "HOME=/tmp"]);
    }

    #[test]
    fn keys_that_are_none_are_refused_without_telling_the_value() {
        for (set, unset) in [
            (vec!["=secret"], vec![]),
            (vec!["plain"], vec![]),
            (vec![], vec![""]),
            (vec![], vec!["A=secret"]),
        ] {
            let spec =
                Specification { set: strings(&set), unset: strings(&unset), ..Default::default() };
            let error = environment(&spec, None).expect_err("refused");
            assert_eq!(error.step, crate::Step::Specification);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_nul_byte_is_refused_in_every_string() {
        let spec = Specification {
            program: b"a".to_vec(),
            arguments: vec![b"x\0y".to_vec()],
            set: vec![b"A=\0".to_vec()],
            ..Default::default()
        };
        assert!(arguments(&spec).is_err());
        assert!(environment(&spec, None).is_err());
        assert!(candidates(b"/a\0b", &Block::default()).is_err());
        assert!(candidates(b"a\0b", &Block::default()).is_err());
        assert!(candidates(b"", &Block::default()).is_err());
    }

    #[test]
    fn a_name_is_tried_in_each_directory_of_the_programs_own_path() {
        assert_eq!(paths("ls", &["X=1", "PATH=/a::/b:"]), ["/a/ls", "ls", "/b/ls", "ls"]);
        assert_eq!(paths("ls", &["PATH="]), ["ls"]);
        assert_eq!(paths("ls", &[]), ["/usr/local/bin/ls", "/usr/bin/ls", "/bin/ls"]);
        assert_eq!(paths("./ls", &["PATH=/a"]), ["./ls"]);
    }
}
