//! Whether the program did what the model expects.

use foobar::dataplane::Verdict;
use foobar_common::counters::{Counter, Counters};
use foobar_common::slot::Member;
use foobar_common::target::TargetCounters;

use crate::model::Expected;

/// The number of XDP_DROP.
const DROP: u32 = 1;
/// The number of XDP_TX, and of XDP_REDIRECT.
const LEAVES: [u32; 2] = [3, 4];

/// By how much each counter moved.
pub(super) fn moved(before: &Counters, after: &Counters) -> Vec<(Counter, u64)> {
    Counter::ALL
        .iter()
        .map(|&counter| (counter, after.get(counter).wrapping_sub(before.get(counter))))
        .filter(|&(_, by)| by != 0)
        .collect()
}

/// What the program dropped a packet for, if it did.
pub(super) fn dropped(verdict: &Verdict, moved: &[(Counter, u64)]) -> Option<Counter> {
    let reason = moved
        .iter()
        .map(|&(counter, _)| counter)
        .find(|counter| counter.name().starts_with("drop_"));
    reason.filter(|_| verdict.action == DROP)
}

/// By how much a member's counters moved.
pub(super) fn sent(member: Member, before: TargetCounters, after: TargetCounters) -> Option<String> {
    (before != after).then(|| {
        format!(
            "member {member}: {} packets, {} bytes, {} connections",
            after.packets.wrapping_sub(before.packets),
            after.bytes.wrapping_sub(before.bytes),
            after.connections.wrapping_sub(before.connections)
        )
    })
}

/// Where the verdict or the counters are not as expected: all that is to be said about it.
pub(super) fn difference(expected: &Expected, verdict: &Verdict, moved: &[(Counter, u64)]) -> Option<String> {
    let mut said = Vec::new();
    if verdict.action != expected.action {
        said.push(format!(
            "action: the program's {}, the model's {}",
            verdict.action, expected.action
        ));
    }
    if !same_bytes(expected, &verdict.frame) {
        said.push(format!("bytes, the program's: {}", hex(&verdict.frame)));
        said.push(format!("bytes, the model's:   {}", hex(&expected.frame)));
    }
    let mut model: Vec<(&str, u64)> = expected
        .counters
        .iter()
        .map(|counter| (counter.name(), 1))
        .collect();
    let mut program: Vec<(&str, u64)> = moved.iter().map(|&(counter, by)| (counter.name(), by)).collect();
    model.sort_unstable();
    program.sort_unstable();
    if model != program {
        said.push(format!(
            "counters: the program's {program:?}, the model's {model:?}"
        ));
    }
    (!said.is_empty()).then(|| said.join("\n"))
}

/// Whether the program sent the frame to somebody whom the model doesn't send it to.
pub(super) fn is_wrong_target(expected: &Expected, verdict: &Verdict) -> bool {
    LEAVES.contains(&verdict.action)
        && (!LEAVES.contains(&expected.action) || verdict.frame.get(..6) != expected.frame.get(..6))
}

/// One's complement has two zeros (RFC 1071): which one a ping's updated checksum gets is the program's choice.
fn same_bytes(expected: &Expected, frame: &[u8]) -> bool {
    if expected.frame == frame {
        return true;
    }
    if !expected.counters.contains(&Counter::AnswerEcho) || expected.frame.len() != frame.len() {
        return false;
    }
    let differing: Vec<usize> = (0..frame.len())
        .filter(|&at| frame[at] != expected.frame[at])
        .collect();
    match differing[..] {
        [first, second] => {
            let zeros = [[0, 0], [0xff, 0xff]];
            let of = |bytes: &[u8]| [bytes[first], bytes[second]];
            second == first + 1
                && first % 2 == 0
                && zeros.contains(&of(frame))
                && zeros.contains(&of(&expected.frame))
        }
        _ => false,
    }
}

/// Bytes as one can paste them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
