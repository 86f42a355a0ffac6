// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Stopping every process of a run, and letting them go on: `cgroup.freeze` of version 2 (from
//! 5.2), the freezer controller of version 1.

use std::ffi::CStr;

use rustix::io::Errno;

use super::group::{number_of, Group};
use super::mounts::Version;
use super::run::Run;
use super::settings;
use crate::{Error, Step};

/// The file, and what is written to freeze and to thaw.
fn file(version: Version) -> (&'static CStr, &'static [u8], &'static [u8]) {
    match version {
        Version::V1 => (c"freezer.state", b"FROZEN", b"THAWED"),
        Version::V2 => (c"cgroup.freeze", b"1", b"0"),
    }
}

impl Group {
    /// `None` where it can't be frozen.
    fn is_frozen(&self) -> Option<bool> {
        let read = |file| settings::read(&self.fd, file).ok();
        match self.version {
            Version::V1 => Some(read(c"freezer.state")?.trim_ascii() == b"FROZEN"),
            Version::V2 => {
                read(c"cgroup.freeze")?;
                Some(number_of(&read(c"cgroup.events")?, b"frozen") == 1)
            }
        }
    }
}

impl Run {
    /// The one of its groups that can be frozen.
    fn freezer(&self) -> Option<&Group> {
        let mut groups = self.places().iter().map(|place| &place.group);
        groups.find(|group| group.is_frozen().is_some())
    }

    /// Begins to stop all processes, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let Some(group) = self.freezer() else {
            let sentence = "the run's group can't be frozen: on cgroup v1 it needs the controller \
                            freezer";
            return Err(Error::new(Step::Cgroup, Errno::OPNOTSUPP.raw_os_error(), sentence));
        };
        let (file, freeze, thaw) = file(group.version);
        let value = if frozen { freeze } else { thaw };
        settings::write(&group.fd, file, value)
            .map_err(|errno| Error::new(Step::Cgroup, errno.raw_os_error(), file.to_bytes()))
    }

    /// Whether all of them are stopped.
    pub(crate) fn is_frozen(&self) -> bool {
        self.freezer().and_then(Group::is_frozen).unwrap_or(false)
    }
}
