//! The tc egress program that leads health checks to their targets.

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
        let object = objects::CHECK.ok_or(Error::NotBuilt)?;
        let mut loader = EbpfLoader::new();
        for map in ["SETTINGS", "TARGETS"] {
            loader.map_pin_path(map, pins.map(map));
        }
        let mut object = loader.load(object)?;
        // Where tcx is not there (before 6.6) the program needs a clsact qdisc; there already is fine.
        drop(tc::qdisc_add_clsact(interface));
        let program: &mut SchedClassifier = object
            .program_mut("check")
            .ok_or(Error::Missing("check"))?
            .try_into()
            .map_err(Error::Program)?;
        program.load()?;
        program.attach(interface, TcAttachType::Egress)?;
        Ok(Self { _object: object })
    }
}
