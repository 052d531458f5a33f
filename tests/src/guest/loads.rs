//! Every program, given to the kernel with every combination of features that there is.

use std::time::Instant;

use anyhow::{Context as _, Result};
use aya::EbpfLoader;
use aya::programs::{Program, ProgramError};
use foobar::dataplane::DirectMaps;
use foobar_common::admission::{
    FEATURE_LISTS, FEATURE_NOTE_EVENTS, FEATURE_QUIC, FEATURE_SYN_LIMITS, FEATURE_TRACKING, FEATURE_TUNNELS,
    FEATURES_ALL, Features,
};

use crate::events::Load;

/// How many lines of a refusal are told: the verifier says last what it minds.
const REFUSAL_LINES: usize = 60;

const FEATURE_NAMES: [(Features, &str); 6] = [
    (FEATURE_LISTS, "lists"),
    (FEATURE_SYN_LIMITS, "syn-limits"),
    (FEATURE_QUIC, "quic"),
    (FEATURE_TRACKING, "tracking"),
    (FEATURE_TUNNELS, "tunnels"),
    (FEATURE_NOTE_EVENTS, "note-events"),
];

const _: () = {
    let mut named = 0;
    let mut place = 0;
    while place < FEATURE_NAMES.len() {
        named |= FEATURE_NAMES[place].0;
        place += 1;
    }
    assert!(
        named == FEATURES_ALL | FEATURE_NOTE_EVENTS,
        "every feature has its name here"
    );
};

/// An object to be loaded.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) object: &'static str,
    /// `None` where the object has none.
    features: Option<Features>,
}

/// The balancer with every combination of the features that VIPs and targets ask for, and with events of notes besides
/// none, each, and all of these; and every other object.
pub(crate) fn attempts() -> impl Iterator<Item = Attempt> {
    let told = (0..=FEATURES_ALL)
        .filter(|&features| features.count_ones() < 2 || features == FEATURES_ALL)
        .map(|features| features | FEATURE_NOTE_EVENTS);
    let balancers = (0..=FEATURES_ALL).chain(told).map(|features| Attempt {
        object: "balancer",
        features: Some(features),
    });
    let others = ["check", "agent", "bench"].map(|object| Attempt {
        object,
        features: None,
    });
    balancers.chain(others)
}

/// Loads each program of an object. That the kernel refuses one is a result; that the object can't be read, or
/// its maps not be made, is as well.
pub(crate) fn load(object: &[u8], attempt: &Attempt) -> Result<Vec<Load>> {
    let blank = |program: &str| Load {
        program: program.to_owned(),
        features: attempt.features.map(names),
        ms: 0.0,
        verified: 0,
        instructions: 0,
        refusal: None,
    };
    let mut loader = EbpfLoader::new();
    if let Some(features) = &attempt.features {
        loader.override_global("FEATURES", features, true);
    }
    let mut object = object.to_vec();
    // Only the balancer has features, and only it has maps that it reaches without a look-up.
    let mut direct = attempt
        .features
        .map(|_| DirectMaps::reserve(&mut object))
        .transpose()?;
    let mut ebpf = match loader.load(&object) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            return Ok(vec![Load {
                refusal: Some(format!("{:#}", anyhow::Error::from(error))),
                ..blank(attempt.object)
            }]);
        }
    };
    if let Some(direct) = &mut direct {
        direct.settle(&ebpf)?;
    }
    let mut loads = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        let begin = Instant::now();
        let result = give(program);
        let ms = begin.elapsed().as_secs_f64() * 1_000.0;
        let mut load = Load { ms, ..blank(name) };
        match result {
            Ok(()) => {
                let info = program.info().context("the kernel does not show the program")?;
                load.verified = info.verified_instruction_count().unwrap_or_default();
                load.instructions = info.size_translated().unwrap_or_default() / 8;
            }
            Err(error) => load.refusal = Some(words(&error)),
        }
        loads.push(load);
    }
    Ok(loads)
}

fn give(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn names(features: Features) -> Vec<&'static str> {
    let with = FEATURE_NAMES.iter().filter(|(bit, _)| features & bit != 0);
    with.map(|&(_, name)| name).collect()
}

fn words(error: &ProgramError) -> String {
    let text = match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => format!("{verifier_log}\n{io_error}"),
        error => error.to_string(),
    };
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(REFUSAL_LINES)..].join("\n")
}
