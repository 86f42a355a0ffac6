// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Plain streams: a builder with the names that Rust users know.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use proton_stream_protocol::Stdio as Wire;

use crate::session::{self, Lease, Specification};
use crate::{Child, Error, Exit, Messages, Options, Output, ProtonStream, Stdio};

/// A program to be started, as in [`std::process::Command`].
///
/// The names are std's and do the same. What is beside them is in [`Options`], by
/// [`with`](Self::with). There is no `pre_exec`: nothing of this process runs in the program's.
///
/// ```
/// use proton_stream::Command;
///
/// # async fn example() -> Result<(), proton_stream::Error> {
/// let output = Command::new("sh")
///     .args(["-c", "echo $GREETING; exit 3"])
///     .env("GREETING", "hello")
///     .with(|options| options.nice(5))
///     .output()
///     .await?;
/// assert_eq!(output.stdout, b"hello\n");
/// assert_eq!(output.exit.code(), Some(3));
/// # Ok(())
/// # }
/// # fn main() {
/// #     proton_stream::maybe_run();
/// #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    stdio: [Option<Stdio>; 3],
    options: Options,
}

impl Command {
    /// A program with a `/` is a path, any other a name that is looked up in the `PATH` that the
    /// program itself will see.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            stdio: [None, None, None],
            options: Options::new(),
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Everything else about the run.
    pub fn with(&mut self, change: impl FnOnce(Options) -> Options) -> &mut Self {
        self.options = change(std::mem::take(&mut self.options));
        self
    }

    /// [`Options::env`].
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.with(|options| options.env(key, value))
    }

    /// Sets variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        variables.into_iter().for_each(|(key, value)| {
            self.env(key, value);
        });
        self
    }

    /// [`Options::env_remove`].
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.with(|options| options.env_remove(key))
    }

    /// [`Options::env_clear`].
    pub fn env_clear(&mut self) -> &mut Self {
        self.with(Options::env_clear)
    }

    /// [`Options::current_dir`].
    pub fn current_dir(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.with(|options| options.current_dir(path))
    }

    /// [`Options::arg0`].
    pub fn arg0(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.with(|options| options.arg0(name))
    }

    /// [`Options::user`], by number. Unlike std's it brings the user's groups.
    pub fn uid(&mut self, uid: u32) -> &mut Self {
        self.with(|options| options.user(uid))
    }

    /// [`Options::group`], by number.
    pub fn gid(&mut self, gid: u32) -> &mut Self {
        self.with(|options| options.group(gid))
    }

    /// [`Options::groups`], by numbers.
    pub fn groups(&mut self, groups: &[u32]) -> &mut Self {
        self.with(|options| options.groups(groups))
    }

    /// Where stdin leads: inherited, unless it is for [`output`](Self::output), then null.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Where stdout leads: inherited, unless it is for [`output`](Self::output), then piped.
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Where stderr leads: inherited, unless it is for [`output`](Self::output), then piped.
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// Starts the program.
    ///
    /// Unlike std's this waits: a guardian starts the program, and says whether it could.
    ///
    /// # Errors
    /// As for [`ProtonStream::open`](crate::ProtonStream::open).
    pub async fn spawn(&mut self) -> Result<Child, Error> {
        let (lease, stdio) = self.start([Stdio::inherit, Stdio::inherit, Stdio::inherit]).await?;
        Ok(Child::new(lease, stdio))
    }

    /// Starts the program and waits for its end. A stream that was piped has nobody at the other
    /// end: stdin ends at once, and who writes to the others gets SIGPIPE.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    pub async fn status(&mut self) -> Result<Exit, Error> {
        let mut child = self.spawn().await?;
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().await
    }

    /// Starts the program, and gathers what it writes until its end.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    pub async fn output(&mut self) -> Result<Output, Error> {
        let (lease, stdio) = self.start([Stdio::null, Stdio::piped, Stdio::piped]).await?;
        Child::new(lease, stdio).wait_with_output().await
    }

    /// Starts the program in message mode. Streams that were not named are piped; those that are
    /// not piped bring no messages.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    pub async fn open(&self) -> Result<(ProtonStream, Messages), Error> {
        let (lease, _) = self.start([Stdio::piped, Stdio::piped, Stdio::piped]).await?;
        Ok(ProtonStream::new(lease))
    }

    async fn start(&self, defaults: [fn() -> Stdio; 3]) -> Result<(Lease, [Wire; 3]), Error> {
        let default = defaults.map(|default| default());
        let mut stdio = default.each_ref();
        for (chosen, given) in stdio.iter_mut().zip(&self.stdio) {
            *chosen = given.as_ref().unwrap_or(*chosen);
        }
        let wire = stdio.map(Stdio::wire);
        if wire[..2].contains(&Wire::SameAsStdout) {
            return Err(Error::Invalid {
                what: "stdin or stdout",
                value: "the same as stdout".to_owned(),
                allowed: "that for stderr only",
            });
        }
        let descriptors =
            stdio.iter().enumerate().filter_map(|(index, stdio)| stdio.descriptor(index));
        let lease = session::start(Specification {
            program: &self.program,
            arguments: &self.arguments,
            stdio: wire,
            descriptors: descriptors.collect(),
            options: &self.options,
        });
        Ok((lease.await?, wire))
    }
}

impl From<&std::process::Command> for Command {
    /// Takes over program, arguments, the variables that were set and removed, and the directory.
    /// Nothing else of a [`std::process::Command`] can be seen: its streams, its user and an
    /// `env_clear` have to be said again.
    fn from(command: &std::process::Command) -> Self {
        let mut ours = Self::new(command.get_program());
        ours.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => ours.env(key, value),
                None => ours.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            ours.current_dir(directory);
        }
        ours
    }
}
