// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Which groups of which hierarchies a request is about, and what is written into them.

use rustix::io::Errno;

use super::beneath::plain_name;
use super::mounts::{Found, Hierarchy};
use super::place::Wanted;
use super::translate::{translate, Write};
use super::{Request, Setting};
use crate::environment::shown;
use crate::{StartError, Step};

fn failed(errno: Errno, detail: impl Into<Vec<u8>>) -> StartError {
    StartError::new(Step::Cgroup, errno.raw_os_error(), detail)
}

/// What is to be made in one hierarchy.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) wanted: Wanted<'a>,
    pub(super) writes: Vec<Write>,
    /// Only for its `cgroup.kill`: where its base is missing, the run goes without.
    pub(super) is_extra: bool,
}

/// The mounts of the controllers, each once: those mounted together share a directory. In the
/// order of their names, so that two starts on one path can't hold half of it each.
pub(super) fn plan<'a>(
    request: &'a Request,
    hierarchy: &'a Hierarchy,
    is_root: bool,
) -> Result<Vec<Part<'a>>, StartError> {
    for setting in &request.settings {
        check_setting(setting, &request.controllers)?;
    }
    let mut steps: Vec<(Wanted<'a>, Vec<&'a Setting>)> = Vec::new();
    for controller in &request.controllers {
        let (mount, name) = match hierarchy.find(controller) {
            Some(Found::At(mount, name)) => (mount, Some(name)),
            Some(Found::Core(mount)) => (mount, None),
            None => return Err(no_controller(controller, hierarchy)),
        };
        let index = match steps.iter().position(|(known, _)| known.mount.point == mount.point) {
            Some(index) => index,
            None => {
                steps.push((Wanted { mount, controllers: Vec::new() }, Vec::new()));
                steps.len() - 1
            }
        };
        let Some((wanted, settings)) = steps.get_mut(index) else { continue };
        wanted.controllers.extend(name.filter(|name| !wanted.controllers.contains(name)));
        settings.extend(request.settings.iter().filter(|one| one.controller == *controller));
    }
    let mut plan = Vec::new();
    for (wanted, settings) in steps {
        let writes = translate(wanted.mount.version, &settings)?;
        plan.push(Part { wanted, writes, is_extra: false });
    }
    // Only root may enter any group: for others the extra could be what makes the start fail.
    if let (Hierarchy::Hybrid(_, tree), true) = (hierarchy, is_root) {
        if !plan.iter().any(|step| step.wanted.mount.point == tree.point) {
            let wanted = Wanted { mount: tree, controllers: Vec::new() };
            plan.push(Part { wanted, writes: Vec::new(), is_extra: true });
        }
    }
    plan.sort_by(|a, b| a.wanted.mount.point.cmp(&b.wanted.mount.point));
    Ok(plan)
}

fn no_controller(controller: &[u8], hierarchy: &Hierarchy) -> StartError {
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
