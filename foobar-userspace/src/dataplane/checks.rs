//! The tc programs that lead what the daemon itself sends: health checks to their targets, and the canary's packets out
//! of the veth pair by which they meet the balancer's program.

use aya::programs::SchedClassifier;
use aya::programs::tc::{self, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use super::load::Error;
use super::objects;
use super::pins::Pins;

/// The `check` program on an interface, for as long as the value lives: only the daemon makes checks.
pub struct CheckProgram {
    _object: Ebpf,
}

impl CheckProgram {
    /// Loads the program upon the pinned maps, and attaches it to the interface's egress.
    ///
    /// # Errors
    /// As [`super::DataPlane::open`].
    pub fn attach(pins: &Pins, interface: &str) -> Result<Self, Error> {
        let object = attach(EbpfLoader::new(), pins, "check", interface, TcAttachType::Egress)?;
        Ok(Self { _object: object })
    }
}

/// The `canary` program on the near end of the canary's veth pair, for as long as the value lives.
pub struct CanaryExit {
    _object: Ebpf,
}

impl CanaryExit {
    /// Attaches the program to the ingress of `near`; what it leads on leaves by the interface with index `nic`.
    ///
    /// # Errors
    /// As [`super::DataPlane::open`].
    pub fn attach(pins: &Pins, near: &str, nic: u32) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        loader.override_global("NIC", &nic, true);
        let object = attach(loader, pins, "canary", near, TcAttachType::Ingress)?;
        Ok(Self { _object: object })
    }
}

/// Loads a program of the object upon the pinned maps, and attaches it; it stays for as long as the object lives.
fn attach(
    mut loader: EbpfLoader<'_>,
    pins: &Pins,
    name: &'static str,
    interface: &str,
    to: TcAttachType,
) -> Result<Ebpf, Error> {
    let object = objects::CHECK.ok_or(Error::NotBuilt)?;
    for map in ["SETTINGS", "TARGETS"] {
        loader.map_pin_path(map, pins.map(map));
    }
    let mut object = loader.load(object)?;
    // Where tcx is not there (before 6.6) the program needs a clsact qdisc; there already is fine.
    drop(tc::qdisc_add_clsact(interface));
    let program: &mut SchedClassifier = object
        .program_mut(name)
        .ok_or(Error::Missing(name))?
        .try_into()
        .map_err(Error::Program)?;
    program.load()?;
    program.attach(interface, to)?;
    Ok(object)
}
