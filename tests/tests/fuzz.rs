//! A slice of random, mutated and adversarial packets through the real program and its reference model, in every
//! run of the tests: of a seed that stays, and of one that is new. And faults that are planted, to be found.
//!
//! As many more as one likes: `cargo xtask fuzz --packets N`.

use std::time::SystemTime;

use anyhow::Result;
use foobar_common::admission::{FEATURES_ALL, Features};
use foobar_tests::fuzz::{Fault, Request, Summary, reachable, run};

/// Packets of a slice.
const PACKETS: u64 = 100_000;

/// Differences after which a slice ends: those show enough.
const ENOUGH: usize = 5;
/// The same where only some worlds show them, and all packets of the others have to be seen first.
const ENOUGH_OF_SOME_WORLDS: usize = 2;

/// The seed that stays.
const SEED: u64 = 20_260_101;

fn slice(seed: u64, features: Features, fault: Option<Fault>) -> Result<Summary> {
    let request = Request {
        packets: PACKETS,
        seed,
        from: 0,
        features,
        enough: match fault {
            Some(Fault::CandidateOrder | Fault::DeniedSource | Fault::OuterLength) => ENOUGH_OF_SOME_WORLDS,
            _ => ENOUGH,
        },
        fault,
    };
    run(request, |_| ())
}

fn nothing_differs(summary: &Summary) {
    assert!(
        summary.differences.is_empty(),
        "seed {}:\n{}",
        summary.seed,
        summary.differences.join("\n\n")
    );
    assert_eq!(summary.packets, PACKETS);
    assert_eq!(summary.wrong_target, 0);
}

#[test]
fn program_and_model_agree_on_every_packet_of_a_seed_and_every_counter_is_reached() -> Result<()> {
    let summary = slice(SEED, FEATURES_ALL, None)?;
    nothing_differs(&summary);
    let unmoved: Vec<_> = reachable()
        .map(|counter| counter.name())
        .filter(|name| !summary.counters.contains_key(name))
        .collect();
    assert!(unmoved.is_empty(), "no packet of the slice moved {unmoved:?}");
    Ok(())
}

#[test]
fn program_and_model_agree_on_every_packet_of_a_new_seed_whatever_the_features() -> Result<()> {
    let now = SystemTime::UNIX_EPOCH.elapsed()?;
    let seed = now.as_nanos() as u64;
    // With other features it is another program to the kernel, for which worlds are drawn that need no more.
    let features = seed as Features & FEATURES_ALL;
    println!("seed {seed}, features {features:#b}");
    nothing_differs(&slice(seed, features, None)?);
    Ok(())
}

#[test]
fn every_planted_fault_is_found() -> Result<()> {
    for fault in Fault::ALL {
        let summary = slice(SEED, FEATURES_ALL, Some(fault))?;
        println!(
            "{fault:?}: {} differences in {} packets, {} to a wrong target",
            summary.differences.len(),
            summary.packets,
            summary.wrong_target
        );
        assert!(!summary.differences.is_empty(), "{fault:?} was not found");
        let misleads = match fault {
            Fault::WrongSlot
            | Fault::WrongSeed
            | Fault::StaleSlots
            | Fault::SwappedBackendMac
            | Fault::MissingLengthCheck
            | Fault::DeniedSource
            | Fault::DeadServerId => true,
            // The frame goes to the right one, and something in it is wrong.
            Fault::SwappedOwnMac | Fault::CandidateOrder | Fault::OuterLength => false,
        };
        assert!(
            !misleads || summary.wrong_target > 0,
            "{fault:?} sent nothing astray"
        );
    }
    Ok(())
}
