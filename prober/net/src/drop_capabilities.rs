//! Gives up the capabilities of this thread, and root, for good.
//!
//! Sockets are opened first; then [`drop_capabilities`] clears every capability set, changes the uid, and proves that nothing
//! is left but what is to be kept. Capabilities belong to a *thread*: it must run before any other thread is started.
use std::fmt;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use socket2::{Domain, Socket, Type};

/// The uid and gid to change to: the kernel's overflow id, on most systems the user `nobody`.
const OVERFLOW_ID: u32 = 65534;

/// The privileges of the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privileges {
    /// The effective uid.
    pub uid: u32,
    /// Whether `CAP_NET_RAW` is effective. Necessary for packets, but not sufficient: the capability must also hold in the
    /// user namespace that owns the network namespace.
    pub net_raw: bool,
    /// Whether `CAP_NET_ADMIN` is effective.
    pub net_admin: bool,
}

/// Privileges cannot be read or given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A capability set cannot be read or changed.
    #[error("cannot {attempted} of this thread: {source}; is /proc mounted?")]
    Capabilities {
        /// What was tried, after "cannot".
        attempted: &'static str,
        /// The error of the system call.
        source: caps::errors::CapsError,
    },
    /// A system call failed for another reason than missing privileges.
    #[error(
        "cannot {attempted}: {source}; refusing to go on with privileges that were to be dropped"
    )]
    Kernel {
        /// What was tried, after "cannot".
        attempted: &'static str,
        /// The error of the system call.
        source: Errno,
    },
    /// Everything was dropped, and yet a privileged operation succeeded.
    #[error("privileges were dropped, and yet this thread can still {what}: refusing to go on")]
    StillPrivileged {
        /// The operation.
        what: &'static str,
    },
}

/// What [`drop_capabilities`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// `CAP_NET_ADMIN`, where this thread has it: ctnetlink wants it with each request.
    NetAdmin,
}

/// The privileges after [`drop_capabilities`], as read back from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The uid. 0 where this thread may not change it, or where the user namespace does not map 65534.
    pub uid: u32,
    /// The gid, likewise.
    pub gid: u32,
    /// Capabilities in any of the permitted, effective, inheritable and ambient sets: none but the kept one.
    pub caps: Vec<Capability>,
    /// Whether execve(2) can still grant privileges: `true` says that it cannot.
    pub no_new_privs: bool,
}

impl fmt::Display for Dropped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caps = self.caps.len();
        write!(
            out,
            "uid {}, gid {}, {caps} capabilities, no_new_privs {}",
            self.uid, self.gid, self.no_new_privs
        )
    }
}

/// Reads the privileges of the calling thread.
pub fn current() -> Result<Privileges, PrivilegeError> {
    let effective = read(CapSet::Effective)?;
    Ok(Privileges {
        uid: Uid::effective().as_raw(),
        net_raw: effective.contains(&Capability::CAP_NET_RAW),
        net_admin: effective.contains(&Capability::CAP_NET_ADMIN),
    })
}

/// Gives up every capability of the calling thread but the kept one, and root, and proves it.
///
/// Open sockets stay usable. Must be called while the process has only one thread. Uid and gid become 65534 where the
/// kernel allows it; in a container with no other capability than `CAP_NET_RAW`, or in a user namespace that maps only
/// root, they stay 0 without a single capability, as the returned value says.
pub fn drop_capabilities(kept: Kept) -> Result<Dropped, PrivilegeError> {
    let mut kept = match kept {
        Kept::Nothing => CapsHashSet::new(),
        Kept::NetAdmin => CapsHashSet::from_iter([Capability::CAP_NET_ADMIN]),
    };
    let permitted = read(CapSet::Permitted)?;
    kept.retain(|capability| permitted.contains(capability));
    drop_bounding_set()?;
    // Otherwise the change of the uid clears the permitted set.
    keep_across_uids(!kept.is_empty())?;
    become_overflow_user()?;
    keep_across_uids(false)?;
    let none = CapsHashSet::new();
    for (set, left, attempted) in [
        (CapSet::Ambient, &none, "clear the ambient capabilities"),
        (
            CapSet::Inheritable,
            &none,
            "clear the inheritable capabilities",
        ),
        (CapSet::Effective, &kept, "clear the effective capabilities"),
        (CapSet::Permitted, &kept, "clear the permitted capabilities"),
    ] {
        let cleared = if left.is_empty() {
            caps::clear(None, set)
        } else {
            caps::set(None, set, left)
        };
        cleared.map_err(|source| PrivilegeError::Capabilities { attempted, source })?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(|source| PrivilegeError::Kernel {
        attempted: "set no_new_privs",
        source,
    })?;
    prove(&kept)
}

fn keep_across_uids(is_kept: bool) -> Result<(), PrivilegeError> {
    nix::sys::prctl::set_keepcaps(is_kept).map_err(|source| PrivilegeError::Kernel {
        attempted: "set whether a change of the uid keeps capabilities",
        source,
    })
}

/// Without `CAP_SETPCAP` the bounding set stays; `no_new_privs` makes that harmless.
fn drop_bounding_set() -> Result<(), PrivilegeError> {
    if read(CapSet::Effective)?.contains(&Capability::CAP_SETPCAP) {
        let attempted = "clear the bounding set";
        // Only capabilities that this kernel knows: others are an error.
        let mut known: Vec<Capability> =
            caps::runtime::thread_all_supported().into_iter().collect();
        known.sort_by_key(Capability::index);
        for capability in known {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(|source| PrivilegeError::Capabilities { attempted, source })?;
        }
    }
    Ok(())
}

/// Groups first, then gid, then uid: in another order the capability to change the rest is gone.
fn become_overflow_user() -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(OVERFLOW_ID), Gid::from_raw(OVERFLOW_ID));
    allowed_or_stays("drop supplementary groups", nix::unistd::setgroups(&[]))?;
    allowed_or_stays("change the gid", nix::unistd::setresgid(gid, gid, gid))?;
    allowed_or_stays("change the uid", nix::unistd::setresuid(uid, uid, uid))
}

/// EPERM: no right to change it. EINVAL: the user namespace does not map it. Either way it stays, which is reported.
fn allowed_or_stays(attempted: &'static str, done: nix::Result<()>) -> Result<(), PrivilegeError> {
    match done {
        Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        Err(source) => Err(PrivilegeError::Kernel { attempted, source }),
    }
}

fn prove(kept: &CapsHashSet) -> Result<Dropped, PrivilegeError> {
    let still = |what| Err(PrivilegeError::StillPrivileged { what });
    let mut left = CapsHashSet::new();
    for set in [
        CapSet::Permitted,
        CapSet::Effective,
        CapSet::Inheritable,
        CapSet::Ambient,
    ] {
        left.extend(read(set)?);
    }
    if !left.is_subset(kept) {
        return still("use capabilities");
    }
    if caps::raise(None, CapSet::Permitted, Capability::CAP_NET_RAW).is_ok() {
        return still("raise CAP_NET_RAW again");
    }
    let uid = Uid::effective();
    if !uid.is_root() && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return still("become uid 0 again");
    }
    if Socket::new(Domain::PACKET, Type::RAW, None).is_ok() {
        return still("open a packet socket");
    }
    let no_new_privs =
        nix::sys::prctl::get_no_new_privs().map_err(|source| PrivilegeError::Kernel {
            attempted: "read no_new_privs",
            source,
        })?;
    if !no_new_privs {
        return still("gain privileges by execve");
    }
    Ok(Dropped {
        uid: uid.as_raw(),
        gid: Gid::effective().as_raw(),
        caps: left.into_iter().collect(),
        no_new_privs,
    })
}

fn read(set: CapSet) -> Result<CapsHashSet, PrivilegeError> {
    caps::read(None, set).map_err(|source| PrivilegeError::Capabilities {
        attempted: "read the capabilities",
        source,
    })
}
