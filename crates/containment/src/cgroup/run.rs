// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The groups of one run: made before the fork, removed after the last death.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{fstatfs, mkdirat, open, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::getpid;
use rustix::time::{clock_gettime, ClockId};

use super::beneath::{components, enter, plain_name};
use super::directory::{remove_made, subdirectories, Directory, Made};
use super::mounts::{Hierarchy, Mount, Mounts};
use super::{settings, Place, Request, Setting};
use crate::environment::shown;
use crate::stdio::above_stdio;
use crate::{StartError, Step};

/// The groups of one run.
#[derive(Debug)]
pub(crate) struct Run {
    path: Vec<u8>,
    directories: Vec<Directory>,
    doors: Vec<OwnedFd>,
    door_names: Vec<Vec<u8>>,
    /// What a group that was there before had counted already.
    ooms_before: u64,
    is_held_still: bool,
}

fn failed(errno: Errno, detail: impl Into<Vec<u8>>) -> StartError {
    StartError::new(Step::Cgroup, errno.raw_os_error(), detail)
}

/// Makes and fills the group that is asked for, if one is. What fails leaves nothing behind.
pub(crate) fn prepare(request: &Request) -> Result<Option<Run>, StartError> {
    if *request == Request::default() {
        return Ok(None);
    }
    let mountinfo = std::fs::read("/proc/self/mountinfo").map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        failed(errno, b"/proc/self/mountinfo".as_slice())
    })?;
    prepare_at(request, &Mounts::parse(&mountinfo))
}

fn prepare_at(request: &Request, mounts: &Mounts) -> Result<Option<Run>, StartError> {
    let Some(place) = &request.place else {
        return Err(StartError::specification(
            "cgroup controllers or settings are given, but neither a base nor a path for the group",
        ));
    };
    if request.controllers.is_empty() {
        return Err(StartError::specification("a cgroup is given, but no controllers for it"));
    }
    for setting in &request.settings {
        check_setting(setting, &request.controllers)?;
    }
    let (Place::Base(path) | Place::Path(path)) = place;
    let names = components(path).ok_or_else(|| failed(Errno::INVAL, path.as_slice()))?;
    let wanted = hierarchies(&request.controllers, mounts)?;
    let mut run = Run {
        path: path.clone(),
        directories: Vec::new(),
        doors: Vec::new(),
        door_names: Vec::new(),
        ooms_before: 0,
        is_held_still: false,
    };
    let fresh = match place {
        Place::Base(_) => Some(fresh_name()),
        Place::Path(_) => None,
    };
    if let Some(name) = &fresh {
        run.path = [path, b"/".as_slice(), name.as_bytes()].concat();
    }
    for wanted in wanted {
        let result = run
            .make(wanted, mounts.magic, &names, fresh.as_ref())
            .and_then(|()| run.fill_last(&request.settings));
        if let Err(error) = result {
            run.abandon();
            return Err(error);
        }
    }
    run.ooms_before = run.ooms();
    Ok(Some(run))
}

fn check_setting(setting: &Setting, controllers: &[Vec<u8>]) -> Result<(), StartError> {
    if !controllers.contains(&setting.controller) {
        let sentence = format!(
            "{} is for controller {}, which is not among those requested",
            shown(&setting.file),
            shown(&setting.controller),
        );
        return Err(failed(Errno::INVAL, sentence));
    }
    if plain_name(&setting.file).is_none() || setting.value.is_empty() {
        return Err(failed(Errno::INVAL, setting.file.as_slice()));
    }
    Ok(())
}

/// What is wanted of one mount.
struct Wanted<'a> {
    mount: &'a Mount,
    controllers: Vec<Vec<u8>>,
}

/// The mounts of the controllers, each once: those mounted together share a directory.
fn hierarchies<'a>(
    controllers: &[Vec<u8>],
    mounts: &'a Mounts,
) -> Result<Vec<Wanted<'a>>, StartError> {
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for controller in controllers {
        let Some(mount) = mounts.find(controller) else {
            return Err(no_mount(controller, mounts.hierarchy()));
        };
        match wanted.iter_mut().find(|known| known.mount.point == mount.point) {
            Some(known) => known.controllers.push(controller.clone()),
            None => wanted.push(Wanted { mount, controllers: vec![controller.clone()] }),
        }
    }
    Ok(wanted)
}

fn no_mount(controller: &[u8], hierarchy: Hierarchy) -> StartError {
    let name = shown(controller);
    match hierarchy {
        Hierarchy::V2 => failed(
            Errno::OPNOTSUPP,
            format!("controller {name}: this host has cgroup version 2 only, and this version of proton_stream uses version 1"),
        ),
        Hierarchy::None => failed(
            Errno::OPNOTSUPP,
            format!("controller {name}: no cgroup file system is mounted"),
        ),
        Hierarchy::V1 | Hierarchy::Hybrid => failed(
            Errno::NOENT,
            format!("controller {name} is not mounted as cgroup version 1"),
        ),
    }
}

/// A name that no other run has: the pid is another in each process of a PID namespace, and the
/// clock another in each run of a process. For namespaces that share a base there is mkdir, which
/// fails where the name exists.
fn fresh_name() -> CString {
    let now = clock_gettime(ClockId::Monotonic);
    let pid = getpid().as_raw_nonzero();
    let name = format!("proton-{pid}-{:x}{:08x}", now.tv_sec, now.tv_nsec);
    CString::new(name).unwrap_or_default()
}

impl Run {
    /// Opens the mount, walks to the group, and makes what is to be made.
    fn make(
        &mut self,
        wanted: Wanted<'_>,
        magic: Option<u64>,
        names: &[CString],
        fresh: Option<&CString>,
    ) -> Result<(), StartError> {
        let Wanted { mount, controllers } = wanted;
        let at_mount = |errno| failed(errno, mount.point.as_slice());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut fd = open(mount.point.as_slice(), flags, Mode::empty()).map_err(at_mount)?;
        let kind = u64::try_from(fstatfs(&fd).map_err(at_mount)?.f_type).ok();
        if magic.is_some() && kind != magic {
            return Err(at_mount(Errno::NOTSUP));
        }
        let cpuset = controllers.iter().any(|name| name == b"cpuset");
        let mut made = Vec::new();
        let result: Result<(), Errno> = (|| {
            for name in names {
                // A base must be there; of a path what is missing is made.
                fd = match enter(&fd, name) {
                    Err(Errno::NOENT) if fresh.is_none() => {
                        make_in(fd.try_clone(), name, cpuset, &mut made)?
                    }
                    result => result?,
                };
            }
            if let Some(name) = fresh {
                fd = make_in(fd.try_clone(), name, cpuset, &mut made)?;
            }
            Ok(())
        })();
        if let Err(errno) = result {
            remove_made(&made);
            return Err(failed(errno, self.path.as_slice()));
        }
        let was_there = made.is_empty();
        let directory = Directory {
            controllers,
            kept: if was_there { subdirectories(&fd) } else { Vec::new() },
            fd,
            made,
            was_there,
        };
        if let Err(errno) = directory.occupy() {
            // Busy: what was made on the way is somebody else's by now.
            if errno != Errno::BUSY {
                remove_made(&directory.made);
            }
            return Err(failed(errno, self.path.as_slice()));
        }
        self.directories.push(directory);
        Ok(())
    }

    /// Fills the directory that was made last, and opens its door.
    fn fill_last(&mut self, wanted: &[Setting]) -> Result<(), StartError> {
        let here = |errno| failed(errno, self.path.as_slice());
        let Some(directory) = self.directories.last() else {
            return Ok(());
        };
        for setting in wanted {
            if !directory.has(&setting.controller) {
                continue;
            }
            let key = |errno| StartError::new(Step::Cgroup, errno, setting.file.as_slice());
            let file = plain_name(&setting.file).ok_or_else(|| key(libc::EINVAL))?;
            settings::apply(&directory.fd, &file, &setting.value).map_err(key)?;
        }
        let door = directory.door().map_err(here)?;
        let door = above_stdio(door).map_err(|_| here(Errno::MFILE))?;
        let controllers = directory.controllers.join(b",".as_slice());
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

    /// Keeps the group from growing while it is killed, and from being frozen: a frozen process
    /// of version 1 takes SIGKILL only when it is thawed. Not so in a group that was there
    /// before: its limits are its owner's.
    pub(crate) fn hold_still(&mut self) {
        for directory in &self.directories {
            if directory.has(b"freezer") {
                directory.each(&mut |fd| {
                    let _ = settings::write(fd, c"freezer.state", b"THAWED");
                });
            }
            if directory.has(b"pids") && !directory.was_there && !self.is_held_still {
                let _ = settings::write(&directory.fd, c"pids.max", b"0");
            }
        }
        self.is_held_still = true;
    }

    /// Signals the processes of all the groups but those that were reached already.
    pub(crate) fn signal(&self, signal: i32, reached: &mut HashSet<u32>) {
        for directory in &self.directories {
            directory.signal(signal, reached);
        }
    }

    /// The processes of all the groups. Each is in every group, unless it (or somebody) moved it.
    pub(crate) fn members(&self) -> Vec<u32> {
        let mut members: Vec<u32> = self.directories.iter().flat_map(Directory::members).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    pub(crate) fn is_populated(&self) -> bool {
        self.directories.iter().any(|directory| !directory.members().is_empty())
    }

    fn ooms(&self) -> u64 {
        let memory = self.directories.iter().find(|group| group.has(b"memory"));
        memory.map_or(0, Directory::ooms)
    }

    pub(crate) fn oom_killed(&self) -> bool {
        self.ooms() > self.ooms_before
    }

    /// Removes everything that this run made. The error is the path and the errno of what is
    /// still there; it can be tried again.
    pub(crate) fn remove(&mut self) -> Result<(), (Vec<u8>, i32)> {
        let mut first = None;
        self.directories.retain(|directory| match directory.remove() {
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

/// Makes a group and opens it. One of the cpuset controller can't be entered before it has CPUs
/// and nodes; it gets those of the group that it is in.
fn make_in(
    parent: std::io::Result<OwnedFd>,
    name: &CString,
    cpuset: bool,
    made: &mut Vec<Made>,
) -> Result<OwnedFd, Errno> {
    let parent = parent.map_err(|_| Errno::MFILE)?;
    mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
    made.push(Made { parent, name: name.clone() });
    let parent = made.last().map(|made| made.parent.as_fd()).ok_or(Errno::IO)?;
    let fd = enter(parent, name)?;
    if cpuset {
        let parent = parent.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        for file in [c"cpuset.cpus", c"cpuset.mems"] {
            if settings::read(&fd, file)?.trim_ascii().is_empty() {
                let above = settings::read(&parent, file)?;
                settings::write(&fd, file, above.trim_ascii())?;
            }
        }
    }
    Ok(fd)
}

#[cfg(test)]
mod tests;
