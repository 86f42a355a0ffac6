// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The groups of one run: made before the fork, removed after the last death.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::geteuid;

use super::leftover::fresh_name;
use super::mounts::Hierarchy;
use super::patience::Patience;
use super::place::{place, Place, Refusal, Target};
use super::plan::{plan, Demand, Part, Way};
use super::translate::{translate, Write};
use super::{limits, own, Limit, Place as Where, Request, Wish};
use crate::{Around, Error, Step};

/// How long a run that lives is given to hear of its end: its guardian may not have noticed yet
/// that its controller is gone, while that controller's successor is here already.
const GRACE: Duration = Duration::from_millis(500);

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

fn failed(errno: Errno, detail: impl Into<Vec<u8>>) -> Error {
    Error::new(Step::Cgroup, errno.raw_os_error(), detail)
}

/// Makes and fills the group that is asked for, if one is. What fails leaves nothing behind.
///
/// It may wait: for a run that is about to end on the same path, and for what crashed ones left.
pub(crate) fn prepare(request: &Request, around: &Around<'_>) -> Result<Option<Run>, Error> {
    if request.is_none() {
        return Ok(None);
    }
    let read = |path: &str| {
        std::fs::read(path).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            failed(errno, path.as_bytes())
        })
    };
    let host = Host {
        hierarchy: Hierarchy::detect(&read("/proc/self/mountinfo")?),
        memberships: read("/proc/self/cgroup")?,
        is_root: geteuid().is_root(),
    };
    prepare_at(request, &host, around).map(Some)
}

/// What a request is carried out on.
struct Host {
    hierarchy: Hierarchy,
    /// `/proc/self/cgroup`.
    memberships: Vec<u8>,
    is_root: bool,
}

fn prepare_at(request: &Request, host: &Host, around: &Around<'_>) -> Result<Run, Error> {
    let place = match &request.place {
        Some(place) => place,
        None if request.controllers.is_empty() => &Where::Own,
        None => {
            return Err(Error::specification(
                "cgroup controllers are given, but neither a base nor a path for the group",
            ))
        }
    };
    let demand = Demand::of(request)?;
    if demand.is_empty() {
        return Err(Error::specification("a cgroup is given, but no controllers for it"));
    }
    let way = Way::to(place, &host.memberships)?;
    let plan = plan(&demand, &host.hierarchy, &way, host.is_root)?;
    let patience = Patience::new(request.wait, around.give_up);
    let grace = Instant::now() + GRACE;
    let path = way.path();
    loop {
        let fresh = fresh_name();
        let target = Target {
            path,
            names: &[],
            is_own: matches!(place, Where::Own),
            is_path: matches!(place, Where::Path(_)),
            makes_way: matches!(place, Where::Path(_)),
            fresh: &fresh,
            with_kill_file: !request.without_kill_file,
            patience,
        };
        if let Some(announce) = around.announce {
            announce(&Run::path_of(&plan, &target));
        }
        match Run::attempt(&plan, &target) {
            Ok(run) => return Ok(run),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::Held) if Instant::now() >= grace => {
                return Err(failed(Errno::BUSY, path));
            }
            Err(Refusal::Dying | Refusal::Held | Refusal::Again) => {}
        }
        let goes_on = patience.pause(Duration::from_millis(5));
        if !goes_on.map_err(|_| failed(Errno::CANCELED, path))? {
            return Err(failed(Errno::BUSY, path));
        }
    }
}

impl Run {
    /// One that another process holds.
    pub(super) fn of(path: &[u8], places: Vec<Place>) -> Self {
        let (doors, door_names) = (Vec::new(), Vec::new());
        Self { path: path.to_vec(), places, doors, door_names, ooms_before: 0 }
    }

    /// Where the program is going to be.
    fn path_of(plan: &[Part<'_>], target: &Target<'_>) -> Vec<u8> {
        let names = plan.first().map_or(&[][..], |part| &part.names);
        let mut path: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        path.push(target.fresh.as_bytes());
        path.join(b"/".as_slice())
    }

    fn attempt(plan: &[Part<'_>], target: &Target<'_>) -> Result<Self, Refusal> {
        let mut run = Self {
            path: Self::path_of(plan, target),
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
            run.ooms_before = run.all_ooms();
        }
        Ok(run)
    }

    fn add(&mut self, step: &Part<'_>, target: &Target<'_>) -> Result<(), Refusal> {
        let target = Target { names: &step.names, ..*target };
        if step.is_extra {
            // Nothing is made for it but the leaf.
            let target = Target { makes_way: false, ..target };
            match place(&step.wanted, &target) {
                Err(Refusal::Failed(error)) if error.errno != libc::EBUSY => return Ok(()),
                result => self.places.push(result?),
            }
        } else {
            if target.is_own {
                own::prepare(step.wanted.mount, &step.names)?;
            }
            self.places.push(place(&step.wanted, &target)?);
        }
        Ok(self.fill_last(&step.writes)?)
    }

    /// Writes the limits of the place that was made last, and opens its door.
    fn fill_last(&mut self, writes: &[Write]) -> Result<(), Error> {
        let Some(place) = self.places.last() else {
            return Ok(());
        };
        for write in writes {
            place.set(write)?;
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
    fn all_ooms(&self) -> u64 {
        self.places.iter().map(Place::ooms).max().unwrap_or_default()
    }

    /// How often the OOM killer struck since the run began.
    pub(crate) fn ooms(&self) -> u64 {
        self.all_ooms().saturating_sub(self.ooms_before)
    }

    /// Changes limits, in order; those before one that fails hold.
    ///
    /// A write that fails is tried again after the others: on version 1 the limit of memory can't
    /// be raised above that of memory and swap, which may come next.
    pub(crate) fn update(&self, wanted: &[Limit]) -> Result<(), Error> {
        let wishes = wanted.iter().map(limits::wish).collect::<Result<Vec<_>, _>>()?;
        if let Some(wish) = wishes.iter().find(|wish| self.place_of(wish).is_none()) {
            let sentence = format!(
                "{}: the run was started without the controller {}",
                wish.key.escape_ascii(),
                wish.controller.escape_ascii()
            );
            return Err(failed(Errno::OPNOTSUPP, sentence));
        }
        for (index, place) in self.places.iter().enumerate() {
            let here = wishes.iter().filter(|wish| self.place_of(wish) == Some(index));
            let writes = translate(place.group.version, &here.collect::<Vec<_>>())?;
            let again: Vec<_> = writes.iter().filter(|write| place.set(write).is_err()).collect();
            for write in again {
                place.set(write)?;
            }
        }
        Ok(())
    }

    /// Where a limit's controller is.
    fn place_of(&self, wish: &Wish) -> Option<usize> {
        self.places.iter().position(|place| {
            let alike = |name: &Vec<u8>| {
                *name == wish.controller || (name == b"blkio" && wish.controller == b"io")
            };
            place.controllers.iter().any(alike)
        })
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
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
