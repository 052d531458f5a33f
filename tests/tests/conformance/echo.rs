//! Pings: answered for an owned VIP (RFC 792, RFC 4443 section 4), and only whole ones.

use foobar::dataplane::monotonic_ns;
use foobar_common::counters::Counter;
use foobar_tests::packets::rig::TCP;

use crate::case::{Case, Step, answered, dropped, passes};
use crate::family::{Family, packet, spoilt, with_header_checksum};

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| [answers(family), untouched(family), refusals(family)].concat())
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / echo request / {rest}", family.name())
}

fn answers(family: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [0usize, 1, 2, 3, 7, 8, 31, 32, 56, 57, 512, 1400] {
        let data: Vec<u8> = (0..length).map(|place| place as u8).collect();
        let (ping, pong) = family.ping(family.vip(), &data);
        cases.push(Case::new(
            title(family, &format!("{length} bytes of data / answered with them")),
            ping,
            answered(Counter::AnswerEcho, pong),
        ));
    }
    // Data with which the sum is near its wrap, on both sides.
    for word in [
        0x0000u16, 0x0001, 0x7fff, 0xe4c2, 0xe4c3, 0xe5c2, 0xedc1, 0xedc2, 0xfffe, 0xffff,
    ] {
        let (ping, pong) = family.ping(family.vip(), &word.to_be_bytes());
        cases.push(Case::new(
            title(
                family,
                &format!("data of {word:04x} / answered with the checksum right"),
            ),
            ping,
            answered(Counter::AnswerEcho, pong),
        ));
    }
    let (ping, pong) = family.ping(family.other_vip(), b"data");
    cases.push(Case::new(
        title(family, "to a VIP without services / answered"),
        ping,
        answered(Counter::AnswerEcho, pong),
    ));
    let (ping, pong) = family.ping(family.vip(), b"data");
    for padding in [1usize, 18, 200] {
        let pad = |frame: &[u8]| [frame, &vec![0xee; padding]].concat();
        cases.push(Case::new(
            title(
                family,
                &format!("{padding} bytes behind the packet / answered with them"),
            ),
            pad(&ping),
            answered(Counter::AnswerEcho, pad(&pong)),
        ));
    }
    for hops in [0u8, 1, 63, 64, 65, 128, 255] {
        let asked = spoilt(ping.clone(), |frame| match family {
            Family::V4 => frame[22] = hops,
            Family::V6 => frame[21] = hops,
        });
        let asked = match family {
            Family::V4 => with_header_checksum(asked),
            Family::V6 => asked,
        };
        cases.push(Case::new(
            title(family, &format!("come with {hops} hops left / answered with 64")),
            asked,
            answered(Counter::AnswerEcho, pong.clone()),
        ));
    }
    // The checksum is updated, not made anew: what was damaged on the way stays damaged.
    let damage = |frame: &[u8]| spoilt(frame.to_vec(), |frame| frame[family.transport() + 9] ^= 0x20);
    cases.push(Case::new(
        title(family, "damaged data / answered with its damage"),
        damage(&ping),
        answered(Counter::AnswerEcho, damage(&pong)),
    ));
    cases.push(
        Case::new(
            title(family, "a lease that ends in an hour / answered"),
            ping.clone(),
            answered(Counter::AnswerEcho, pong.clone()),
        )
        .given([Step::Lease(family.lease(), monotonic_ns() + 3_600_000_000_000)]),
    );
    cases.push(
        Case::new(
            title(family, "a lease of another VIP has ended / answered"),
            ping,
            answered(Counter::AnswerEcho, pong),
        )
        .given([Step::Lease(
            match family {
                Family::V4 => Family::V6.lease(),
                Family::V6 => Family::V4.lease(),
            },
            0,
        )]),
    );
    cases
}

/// What an answer keeps of its request.
fn untouched(family: Family) -> Vec<Case> {
    let (ping, pong) = family.ping(family.vip(), b"data");
    let mut cases = Vec::new();
    let mut kept = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let change = |frame: &[u8]| {
            let frame = spoilt(frame.to_vec(), |frame| change(frame));
            match family {
                Family::V4 => with_header_checksum(frame),
                Family::V6 => frame,
            }
        };
        cases.push(Case::new(
            title(family, &format!("{what} / answered with the same")),
            change(&ping),
            answered(Counter::AnswerEcho, change(&pong)),
        ));
    };
    match family {
        Family::V4 => {
            kept("a type of service", &|frame| frame[15] = 0xb8);
            kept("an identification of ones", &|frame| frame[18..20].fill(0xff));
            kept("fragmenting allowed", &|frame| frame[20] = 0);
            for words in [1u8, 5, 10] {
                kept(&format!("{words} words of options"), &|frame| {
                    frame[14] = 0x45 + words;
                    frame.splice(34..34, vec![1; usize::from(words) * 4]);
                    let total = (frame.len() - 14) as u16;
                    frame[16..18].copy_from_slice(&total.to_be_bytes());
                });
            }
        }
        Family::V6 => {
            kept("a traffic class", &|frame| {
                frame[14..16].copy_from_slice(&[0x6b, 0x80])
            });
            kept("a flow label", &|frame| {
                frame[15..18].copy_from_slice(&[0x0f, 0xed, 0xcb])
            });
        }
    }
    cases
}

fn refusals(family: Family) -> Vec<Case> {
    let (ping, _) = family.ping(family.vip(), b"data");
    let mut cases = vec![
        Case::new(
            title(family, "to an address that is no VIP / the kernel's"),
            family.ping(family.host(), b"data").0,
            passes(),
        ),
        Case::new(
            title(family, "damaged beyond the frame's end / dropped as truncated"),
            ping[..ping.len() - 1].to_vec(),
            dropped(Counter::DropTruncated),
        ),
    ];
    for (what, until_ns) in [("no lease", 0), ("a lease that has ended", 1)] {
        cases.push(
            Case::new(
                title(family, &format!("{what} / dropped, its owner answers")),
                ping.clone(),
                dropped(Counter::DropNotOwner),
            )
            .given([Step::Lease(family.lease(), until_ns)]),
        );
    }
    let message = &ping[family.transport()..];
    for length in 1..8usize {
        cases.push(Case::new(
            title(
                family,
                &format!("{length} bytes of a message, the rest behind the packet / dropped as ICMP"),
            ),
            [
                packet(family.client(), family.vip(), family.icmp(), &message[..length]),
                message[length..].to_vec(),
            ]
            .concat(),
            dropped(Counter::DropIcmp),
        ));
    }
    cases.push(Case::new(
        title(family, "as TCP / dropped as truncated"),
        packet(family.client(), family.vip(), TCP, message),
        dropped(Counter::DropTruncated),
    ));
    cases
}
