// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Which groups of which hierarchies a request is about, and what is written into them.

use std::ffi::CString;

use rustix::io::Errno;

use super::beneath::{components, plain_name};
use super::limits;
use super::mounts::{Found, Hierarchy, Mount};
use super::own;
use super::place::Wanted;
use super::translate::{translate, Write};
use super::{Place, Request, Setting, Wish};
use crate::environment::shown;
use crate::{Error, Step};

fn failed(errno: Errno, detail: impl Into<Vec<u8>>) -> Error {
    Error::new(Step::Cgroup, errno.raw_os_error(), detail)
}

/// What is to be made in one hierarchy.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) wanted: Wanted<'a>,
    /// Where: the place's group, or the one that it is made in.
    pub(super) names: Vec<CString>,
    pub(super) writes: Vec<Write>,
    /// Wanted for what its group can do: where its base is missing, the run goes without.
    pub(super) is_extra: bool,
}

/// Where the parts are.
#[derive(Debug)]
pub(super) struct Way {
    /// Below each mount.
    path: Vec<u8>,
    names: Option<Vec<CString>>,
    /// `/proc/self/cgroup`, where the place is the own group.
    memberships: Vec<u8>,
}

impl Way {
    /// `memberships` is `/proc/self/cgroup`.
    pub(super) fn to(place: &Place, memberships: &[u8]) -> Result<Self, Error> {
        let (path, names) = match place {
            Place::Own => (Vec::new(), None),
            Place::Base(path) | Place::Path(path) => {
                let names = components(path);
                (path.clone(), Some(names.ok_or_else(|| failed(Errno::INVAL, path.as_slice()))?))
            }
        };
        Ok(Self { path, names, memberships: memberships.to_vec() })
    }

    /// For errors: as it was given.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    fn names_at(&self, mount: &Mount) -> Result<Vec<CString>, Error> {
        match &self.names {
            Some(names) => Ok(names.clone()),
            None => own::own_path(mount, &self.memberships).ok_or_else(|| {
                let point = mount.point.escape_ascii();
                failed(Errno::NOENT, format!("the own group can't be seen below {point}"))
            }),
        }
    }
}

/// What is asked of all hierarchies together.
#[derive(Debug)]
pub(super) struct Demand {
    controllers: Vec<Vec<u8>>,
    wishes: Vec<Wish>,
}

impl Demand {
    pub(super) fn of(request: &Request) -> Result<Self, Error> {
        for setting in &request.settings {
            check_setting(setting, &request.controllers)?;
        }
        let limits = request.limits.iter().map(limits::wish).collect::<Result<Vec<_>, _>>()?;
        let mut controllers = request.controllers.clone();
        for wish in &limits {
            let alike = |known: &Vec<u8>| {
                *known == wish.controller || (known == b"blkio" && wish.controller == b"io")
            };
            if !controllers.iter().any(alike) {
                controllers.push(wish.controller.clone());
            }
        }
        let wishes = request.settings.iter().map(Wish::from).chain(limits).collect();
        Ok(Self { controllers, wishes })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// The mounts of the controllers, each once: those mounted together share a directory. In the
/// order of their names, so that two starts on one path can't hold half of it each.
pub(super) fn plan<'a>(
    demand: &'a Demand,
    hierarchy: &'a Hierarchy,
    way: &Way,
    is_root: bool,
) -> Result<Vec<Part<'a>>, Error> {
    let mut wanted: Vec<(Wanted<'a>, Vec<&'a Wish>)> = Vec::new();
    for controller in &demand.controllers {
        let (mount, name) = match hierarchy.find(controller) {
            Some(Found::At(mount, name)) => (mount, Some(name)),
            Some(Found::Core(mount)) => (mount, None),
            None => return Err(no_controller(controller, hierarchy)),
        };
        let index = match wanted.iter().position(|(known, _)| known.mount.point == mount.point) {
            Some(index) => index,
            None => {
                wanted.push((Wanted { mount, controllers: Vec::new() }, Vec::new()));
                wanted.len() - 1
            }
        };
        let Some((wanted, wishes)) = wanted.get_mut(index) else { continue };
        wanted.controllers.extend(name.filter(|name| !wanted.controllers.contains(name)));
        wishes.extend(demand.wishes.iter().filter(|wish| {
            wish.controller == *controller || (wish.controller == b"io" && controller == b"blkio")
        }));
    }
    let mut plan = Vec::new();
    for (wanted, wishes) in wanted {
        let writes = translate(wanted.mount.version, &wishes)?;
        let names = way.names_at(wanted.mount)?;
        plan.push(Part { wanted, names, writes, is_extra: false });
    }
    if let Some(stray) =
        plan.iter().find(|part| Some(&part.names) != plan.first().map(|part| &part.names))
    {
        let point = stray.wanted.mount.point.escape_ascii();
        return Err(failed(Errno::XDEV, format!("the own group below {point} is another one")));
    }
    add_extras(&mut plan, hierarchy, way, is_root);
    plan.sort_by(|a, b| a.wanted.mount.point.cmp(&b.wanted.mount.point));
    Ok(plan)
}

/// What no one asked for, and a run has use for where its base is there as well.
///
/// - On version 1 `cpuacct`, which counts CPU time, `freezer`, and `pids`, which makes the forks
///   of those fail that are being killed.
/// - On a hybrid host the version 2 tree, for its `cgroup.kill`. Only for root, who may enter any
///   group: for others this could be what makes the start fail.
fn add_extras<'a>(plan: &mut Vec<Part<'a>>, hierarchy: &'a Hierarchy, way: &Way, is_root: bool) {
    let tree = hierarchy.tree().filter(|_| is_root).map(|tree| (tree, None));
    let useful = |name: &'static str| {
        let has = |mount: &&Mount| mount.controllers.iter().any(|known| known == name.as_bytes());
        Some((hierarchy.v1().iter().rev().find(has)?, Some(name.as_bytes())))
    };
    let extras = ["cpuacct", "freezer", "pids"].into_iter().filter_map(useful).chain(tree);
    for (mount, controller) in extras {
        if hierarchy.v1().is_empty()
            || plan.iter().any(|part| part.wanted.mount.point == mount.point)
        {
            continue;
        }
        let Ok(names) = way.names_at(mount) else { continue };
        if plan.first().is_some_and(|first| first.names != names) {
            continue;
        }
        let wanted = Wanted { mount, controllers: controller.into_iter().collect() };
        plan.push(Part { wanted, names, writes: Vec::new(), is_extra: true });
    }
}

fn no_controller(controller: &[u8], hierarchy: &Hierarchy) -> Error {
    let name = shown(controller);
    match hierarchy {
        Hierarchy::None => {
            failed(Errno::OPNOTSUPP, format!("controller {name}: no cgroup file system is mounted"))
        }
        Hierarchy::V1(_) => {
            failed(Errno::NOENT, format!("controller {name} is not mounted (cgroup v1)"))
        }
        Hierarchy::V2(_) if matches!(controller, b"devices" | b"net_cls" | b"net_prio") => {
            failed(Errno::INVAL, format!("controller {name}: no counterpart on cgroup v2"))
        }
        Hierarchy::V2(tree) | Hierarchy::Hybrid(_, tree) => failed(
            Errno::NOENT,
            format!(
                "controller {name} is not available: {}/cgroup.controllers doesn't have it",
                tree.point.escape_ascii()
            ),
        ),
    }
}

fn check_setting(setting: &Setting, controllers: &[Vec<u8>]) -> Result<(), Error> {
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
