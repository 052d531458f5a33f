//! A program on its interface: attached, pinned, put in another one's place, or run on a single frame.

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp, XdpMode};

use super::load::Error;
use super::pins::Pins;

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes anything of a frame.
    Native,
    /// Behind it, several times slower: the driver can't do better.
    Generic,
}

/// How the program came to be on the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It was attached anew.
    New(Mode),
    /// It took the place of a program that an earlier daemon had left; no packet was lost.
    Replaced,
}

/// What a test run of the program gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The XDP action's number.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Attaches a program to an interface, or puts it in the place of the one whose link is pinned. Where there are
/// pins, the link is pinned: it outlives the process.
pub(super) fn attach(
    program: &mut Xdp,
    pins: Option<&Pins>,
    interface: &str,
    ifindex: u32,
) -> Result<Attachment, Error> {
    if let Some(path) = pins.map(Pins::link)
        && path.exists()
    {
        match replace(program, &path) {
            Ok(()) => return Ok(Attachment::Replaced),
            // The interface is gone, or is another one by the same name: the link leads nowhere.
            Err(Error::Program(error)) if is(&error, libc::ENOLINK) => {
                tracing::warn!(%error, interface, "the pinned link can't be used any more; attaching anew");
                fs::remove_file(&path)?;
            }
            // The pin is what keeps the old program there: it goes on forwarding.
            Err(error) => return Err(error),
        }
    }
    let foreign = || Error::Foreign {
        interface: interface.to_owned(),
    };
    let (id, mode) = match program.attach_to_if_index(ifindex, XdpMode::Driver) {
        Ok(id) => (id, Mode::Native),
        Err(error) if is(&error, libc::EBUSY) || is(&error, libc::EEXIST) => return Err(foreign()),
        Err(error) => {
            tracing::warn!(
                interface,
                %error,
                "the driver can't run XDP: falling back to generic XDP, which costs several times as much a packet"
            );
            match program.attach_to_if_index(ifindex, XdpMode::Skb) {
                Ok(id) => (id, Mode::Generic),
                Err(error) if is(&error, libc::EBUSY) || is(&error, libc::EEXIST) => return Err(foreign()),
                Err(error) => return Err(error.into()),
            }
        }
    };
    if let Some(pins) = pins {
        let link: FdLink = program.take_link(id)?.try_into()?;
        link.pin(pins.link()).map_err(io::Error::other)?;
    }
    Ok(Attachment::New(mode))
}

/// Puts a program in the place of the one that a pinned link holds; the pin stays where it is.
pub(super) fn replace(program: &mut Xdp, path: &Path) -> Result<(), Error> {
    let link: FdLink = PinnedLink::from_pin(path)?.into();
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    // The pin holds the link: this reference to it may go without detaching anything.
    drop(program.take_link(id)?);
    Ok(())
}

/// Runs a program on a frame (BPF_PROG_TEST_RUN).
pub(super) fn test_run(program: &mut Xdp, frame: &[u8]) -> Result<Verdict, Error> {
    let mut out = vec![0u8; frame.len() + 256];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::default()
    })?;
    out.truncate(result.data_size_out as usize);
    Ok(Verdict {
        action: result.return_value,
        frame: out,
    })
}

fn is(error: &ProgramError, errno: i32) -> bool {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error() == Some(errno),
        _ => false,
    }
}
