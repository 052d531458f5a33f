//! The programs by which the canary's packets meet the data plane, for as long as a daemon asks: the balancer's program
//! on the far end of a veth pair, and one on the near end that has what it sends leave by the NIC.

use aya::programs::SchedClassifier;
use aya::programs::tc::{self, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use super::load::Error;
use super::objects;
use super::pins::Pins;

/// The `canary` program on the near end, for as long as the value lives.
pub struct CanaryExit {
    _object: Ebpf,
}

impl CanaryExit {
    /// Attaches the program to the ingress of `near`; what it leads on leaves by the interface with index `nic`.
    ///
    /// # Errors
    /// As [`super::DataPlane::open`].
    pub fn attach(pins: &Pins, near: &str, nic: u32) -> Result<Self, Error> {
        let object = objects::CHECK.ok_or(Error::NotBuilt)?;
        let mut loader = EbpfLoader::new();
        for map in ["SETTINGS", "TARGETS"] {
            loader.map_pin_path(map, pins.map(map));
        }
        let mut object = loader.override_global("NIC", &nic, true).load(object)?;
        // As in `CheckProgram`.
        drop(tc::qdisc_add_clsact(near));
        let program: &mut SchedClassifier = object
            .program_mut("canary")
            .ok_or(Error::Missing("canary"))?
            .try_into()
            .map_err(Error::Program)?;
        program.load()?;
        program.attach(near, TcAttachType::Ingress)?;
        Ok(Self { _object: object })
    }
}
