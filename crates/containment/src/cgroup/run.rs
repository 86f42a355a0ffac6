// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The groups of one run: made before the fork, removed after the last death.

use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::geteuid;

use super::beneath::components;
use super::leftover::fresh_name;
use super::mounts::Hierarchy;
use super::patience::Patience;
use super::place::{place, Place, Refusal, Target};
use super::plan::{plan, Part};
use super::translate::Write;
use super::{settings, Place as Where, Request};
use crate::{StartError, Step};

/// The groups of one run.
#[derive(Debug)]
pub(crate) struct Run {
    path: Vec<u8>,
    places: Vec<Place>,
    doors: Vec<OwnedFd>,
    door_names: Vec<Vec<u8>>,
    /// What a group that was there before had counted already.
    ooms_before: u64,
}

fn failed(errno: Errno, detail: impl Into<Vec<u8>>) -> StartError {
    StartError::new(Step::Cgroup, errno.raw_os_error(), detail)
}

/// Makes and fills the group that is asked for, if one is. What fails leaves nothing behind.
///
/// It may wait: for a run that is about to end on the same path, and for what crashed ones left.
pub(crate) fn prepare(
    request: &Request,
    give_up: Option<BorrowedFd<'_>>,
) -> Result<Option<Run>, StartError> {
    if request.is_none() {
        return Ok(None);
    }
    let mountinfo = std::fs::read("/proc/self/mountinfo").map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        failed(errno, b"/proc/self/mountinfo".as_slice())
    })?;
    let hierarchy = Hierarchy::detect(&mountinfo);
    prepare_at(request, &hierarchy, geteuid().is_root(), give_up).map(Some)
}

fn prepare_at(
    request: &Request,
    hierarchy: &Hierarchy,
    is_root: bool,
    give_up: Option<BorrowedFd<'_>>,
) -> Result<Run, StartError> {
    let Some(place) = &request.place else {
        return Err(StartError::specification(
            "cgroup controllers or settings are given, but neither a base nor a path for the group",
        ));
    };
    if request.controllers.is_empty() {
        return Err(StartError::specification("a cgroup is given, but no controllers for it"));
    }
    let (Where::Base(path) | Where::Path(path)) = place;
    let names = components(path).ok_or_else(|| failed(Errno::INVAL, path.as_slice()))?;
    let plan = plan(request, hierarchy, is_root)?;
    let patience = Patience::new(request.wait, give_up);
    loop {
        let fresh = fresh_name();
        let target = Target {
            path,
            names: &names,
            is_path: matches!(place, Where::Path(_)),
            makes_way: matches!(place, Where::Path(_)),
            fresh: &fresh,
            with_kill_file: !request.without_kill_file,
            patience,
        };
        match Run::attempt(&plan, &target) {
            Ok(run) => return Ok(run),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::Dying | Refusal::Again) => {}
        }
        let goes_on = patience.pause(Duration::from_millis(5));
        if !goes_on.map_err(|_| failed(Errno::CANCELED, path.as_slice()))? {
            return Err(failed(Errno::BUSY, path.as_slice()));
        }
    }
}

impl Run {
    fn attempt(plan: &[Part<'_>], target: &Target<'_>) -> Result<Self, Refusal> {
        let mut run = Self {
            path: [target.path, b"/", target.fresh.as_bytes()].concat(),
            places: Vec::new(),
            doors: Vec::new(),
            door_names: Vec::new(),
            ooms_before: 0,
        };
        for step in plan {
            if let Err(refusal) = run.add(step, target) {
                run.abandon();
                return Err(refusal);
            }
        }
        if target.is_path {
            run.ooms_before = run.ooms();
        }
        Ok(run)
    }

    fn add(&mut self, step: &Part<'_>, target: &Target<'_>) -> Result<(), Refusal> {
        if step.is_extra {
            // Nothing is made for it but the leaf.
            let target = Target { makes_way: false, ..*target };
            match place(&step.wanted, &target) {
                Err(Refusal::Failed(error)) if error.errno != libc::EBUSY => return Ok(()),
                result => self.places.push(result?),
            }
        } else {
            self.places.push(place(&step.wanted, target)?);
        }
        Ok(self.fill_last(&step.writes)?)
    }

    /// Writes the limits of the place that was made last, and opens its door.
    fn fill_last(&mut self, writes: &[Write]) -> Result<(), StartError> {
        let Some(place) = self.places.last() else {
            return Ok(());
        };
        for write in writes {
            let key = |errno| StartError::new(Step::Cgroup, errno, write.key.as_slice());
            settings::apply(place.limits(), &write.file, &write.value).map_err(key)?;
            // Throttles of version 1 don't reach the groups inside.
            if write.file.as_bytes().starts_with(b"blkio.throttle.") {
                settings::apply(&place.group.fd, &write.file, &write.value).map_err(key)?;
            }
        }
        let door = place.door().map_err(|errno| failed(errno, self.path.as_slice()))?;
        let controllers = place.controllers.join(b",".as_slice());
        self.doors.push(door);
        self.door_names.push([&controllers, b":".as_slice(), &self.path].concat());
        Ok(())
    }

    /// The descriptors through which the child enters, once.
    pub(crate) fn take_doors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.doors)
    }

    /// `controllers:path` for each of the doors.
    pub(crate) fn door_names(&self) -> Vec<Vec<u8>> {
        self.door_names.clone()
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// From now on a start on the same path waits for this run's end instead of being refused.
    pub(crate) fn is_about_to_end(&self) {
        self.places.iter().for_each(Place::is_about_to_end);
    }

    /// Kills all at once where the kernel can, or keeps the groups from growing while their
    /// processes are killed one by one.
    pub(crate) fn press(&self) {
        self.is_about_to_end();
        self.places.iter().for_each(|place| place.group.press());
    }

    /// Signals the processes of all the groups but those that were reached already.
    pub(crate) fn signal(&self, signal: i32, reached: &mut HashSet<u32>) {
        for place in &self.places {
            place.group.signal(signal, reached);
        }
    }

    /// The processes of all the groups. Each is in every group, unless it (or somebody) moved it.
    pub(crate) fn members(&self) -> Vec<u32> {
        let places = self.places.iter();
        let mut members: Vec<u32> = places.flat_map(|place| place.group.members()).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    pub(crate) fn is_populated(&self) -> bool {
        self.places.iter().any(|place| place.group.is_populated())
    }

    /// Also where nobody asked for the controller, but a group has it all the same.
    fn ooms(&self) -> u64 {
        self.places.iter().map(Place::ooms).max().unwrap_or_default()
    }

    pub(crate) fn oom_killed(&self) -> bool {
        self.ooms() > self.ooms_before
    }

    /// Removes everything that this run made. The error is the path and the errno of what is
    /// still there; it can be tried again.
    pub(crate) fn remove(&mut self) -> Result<(), (Vec<u8>, i32)> {
        let mut first = None;
        self.places.retain(|place| match place.remove() {
            Ok(()) => false,
            Err(error) => {
                first.get_or_insert(error);
                true
            }
        });
        match first {
            None => Ok(()),
            Some(error) => Err((self.path.clone(), error.raw_os_error())),
        }
    }

    /// Removes everything after a start that failed before the program was in it. For the short
    /// time that the kernel may hold on to a group it is tried again.
    pub(crate) fn abandon(&mut self) {
        for _ in 0..20 {
            match self.remove() {
                Err((_, libc::EBUSY)) => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
