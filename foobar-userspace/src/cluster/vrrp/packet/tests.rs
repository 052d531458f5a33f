//! The codec against bytes worked out by hand, against itself, and against nonsense.

use proptest::prelude::*;

use super::*;

/// The length of the fixed fields.
const HEADER: usize = 8;
const SOURCE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
const SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x11));

fn from(source: IpAddr) -> Envelope {
    Envelope {
        source,
        destination: group(source.is_ipv4()),
        hop_limit: HOP_LIMIT,
    }
}

fn advertisement() -> Advertisement {
    Advertisement {
        router_id: 51,
        priority: 200,
        interval: Interval::centiseconds(10).unwrap(),
        addresses: vec![Ipv4Addr::new(192, 0, 2, 101).into()],
    }
}

/// A good message with some bytes replaced, and the checksum of the message alone made right again.
fn mended(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = advertisement().encode(SOURCE_V4, Checksum::Message);
    change(&mut message);
    if message.len() >= HEADER {
        message[CHECKSUM].fill(0);
        let sum = !fold(words(&message));
        message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

#[test]
fn an_ipv4_message_has_rfc_9568s_fields_and_either_checksum() {
    // 3133 + c801 + 000a + c000 + 0265 = 1_bba3 -> bba4 -> !bba4 = 445b
    let plain = [0x31, 51, 200, 1, 0, 10, 0x44, 0x5b, 192, 0, 2, 101];
    assert_eq!(advertisement().encode(SOURCE_V4, Checksum::Message), plain);
    // besides c000 + 020b + e000 + 0012 + 000c + 0070 = 1_a299 -> bba4 + a29a = 1_5e3e -> 5e3f -> !5e3f = a1c0
    let with_header = [0x31, 51, 200, 1, 0, 10, 0xa1, 0xc0, 192, 0, 2, 101];
    assert_eq!(
        advertisement().encode(SOURCE_V4, Checksum::PseudoHeader),
        with_header
    );
    for message in [plain, with_header] {
        assert_eq!(
            Advertisement::decode(&message, &from(SOURCE_V4)),
            Ok(advertisement())
        );
    }
}

#[test]
fn an_ipv6_message_needs_its_pseudo_header() {
    let six = Advertisement {
        addresses: vec!["2001:db8:0:1::101".parse().unwrap()],
        ..advertisement()
    };
    for checksum in [Checksum::Message, Checksum::PseudoHeader] {
        let message = six.encode(SOURCE_V6, checksum);
        assert_eq!(message.len(), 24);
        assert_eq!(Advertisement::decode(&message, &from(SOURCE_V6)), Ok(six.clone()));
    }
    let mut bare = six.encode(SOURCE_V6, Checksum::Message);
    bare[CHECKSUM].fill(0);
    let sum = !fold(words(&bare));
    bare[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(
        Advertisement::decode(&bare, &from(SOURCE_V6)),
        Err(Invalid::Checksum)
    );
}

#[test]
fn what_section_7_1_rules_out_is_refused() {
    let refused = |message: &[u8], envelope: Envelope| Advertisement::decode(message, &envelope).err();
    let good = mended(|_| ());
    let far = Envelope {
        hop_limit: 254,
        ..from(SOURCE_V4)
    };
    let unicast = Envelope {
        destination: Ipv4Addr::new(192, 0, 2, 12).into(),
        ..from(SOURCE_V4)
    };
    assert_eq!(refused(&good, from(SOURCE_V4)), None);
    assert_eq!(refused(&good, far), Some(Invalid::HopLimit));
    assert_eq!(refused(&good, unicast), Some(Invalid::Destination));
    for (message, why) in [
        (mended(|bytes| bytes[0] = 0x21), Invalid::Version),
        (mended(|bytes| bytes[0] = 0x32), Invalid::Type),
        (mended(|bytes| bytes[1] = 0), Invalid::RouterId),
        (mended(|bytes| bytes[3] = 2), Invalid::Length),
        (mended(|bytes| bytes.truncate(7)), Invalid::Length),
        (mended(|bytes| bytes.clear()), Invalid::Length),
        (mended(|bytes| bytes[5] = 0), Invalid::Interval),
        (mended(|bytes| bytes[3] = 0), Invalid::Count),
    ] {
        assert_eq!(refused(&message, from(SOURCE_V4)), Some(why), "{message:?}");
    }
    let mut broken = good;
    broken[2] ^= 1;
    assert_eq!(refused(&broken, from(SOURCE_V4)), Some(Invalid::Checksum));
}

#[test]
fn reserved_bits_are_ignored() {
    let message = mended(|bytes| bytes[4] |= 0xf0);
    assert_eq!(
        Advertisement::decode(&message, &from(SOURCE_V4)),
        Ok(advertisement())
    );
}

#[test]
fn an_interval_is_a_whole_number_of_centiseconds_that_fits_twelve_bits() {
    let of = |milliseconds| Interval::exactly(Duration::from_millis(milliseconds));
    assert_eq!(of(10), Interval::centiseconds(1));
    assert_eq!(of(40_000), Interval::centiseconds(4_000));
    for wrong in [0, 5, 15, 40_960, 1_000_000] {
        assert_eq!(of(wrong), None, "{wrong} ms");
    }
}

#[test]
fn an_ipv4_header_is_taken_off_with_its_options_and_padding() {
    let mut packet = vec![0; 24];
    packet[0] = 0x46;
    packet[8] = 255;
    packet[9] = PROTOCOL;
    packet[12..16].copy_from_slice(&[192, 0, 2, 11]);
    packet[16..20].copy_from_slice(&GROUP_V4.octets());
    let message = advertisement().encode(SOURCE_V4, Checksum::Message);
    packet.extend(&message);
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet.extend([0; 10]);
    assert_eq!(open_ipv4(&packet), Some((from(SOURCE_V4), message.as_slice())));
    packet[3] = 10;
    assert_eq!(open_ipv4(&packet), None, "a total length within the header");
}

fn addresses(is_v4: bool) -> BoxedStrategy<Vec<IpAddr>> {
    let one = if is_v4 {
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())).boxed()
    } else {
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())).boxed()
    };
    prop::collection::vec(one, 1..=MAX_ADDRESSES).boxed()
}

fn any_advertisement() -> impl Strategy<Value = (IpAddr, Advertisement)> {
    any::<bool>()
        .prop_flat_map(|is_v4| {
            let source = if is_v4 { SOURCE_V4 } else { SOURCE_V6 };
            (
                Just(source),
                1..=255_u8,
                any::<u8>(),
                1..=4095_u16,
                addresses(is_v4),
            )
        })
        .prop_map(|(source, router_id, priority, interval, addresses)| {
            let advertisement = Advertisement {
                router_id,
                priority,
                interval: Interval::centiseconds(interval).unwrap(),
                addresses,
            };
            (source, advertisement)
        })
}

proptest! {
    #[test]
    fn what_is_sent_is_received((source, sent) in any_advertisement(), with_header: bool) {
        let checksum = if with_header { Checksum::PseudoHeader } else { Checksum::Message };
        let message = sent.encode(source, checksum);
        prop_assert_eq!(Advertisement::decode(&message, &from(source)), Ok(sent));
    }

    #[test]
    fn a_changed_ipv6_message_is_refused((_, sent) in any_advertisement(), bit in 0..64_usize) {
        let sent = Advertisement { addresses: vec![SOURCE_V6; sent.addresses.len()], ..sent };
        let mut message = sent.encode(SOURCE_V6, Checksum::Message);
        message[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Advertisement::decode(&message, &from(SOURCE_V6)).is_err());
    }

    #[test]
    fn nonsense_is_refused_or_read_and_never_panics(bytes: Vec<u8>, is_v4: bool, hop_limit: u8) {
        let source = if is_v4 { SOURCE_V4 } else { SOURCE_V6 };
        let envelope = Envelope { hop_limit, ..from(source) };
        let _ = Advertisement::decode(&bytes, &envelope);
        let _ = Advertisement::decode(&bytes, &from(source));
        if let Some((_, payload)) = open_ipv4(&bytes) {
            prop_assert!(payload.len() < bytes.len());
        }
    }

    #[test]
    fn more_addresses_than_the_count_can_say_are_left_out(extra in 1..50_usize) {
        let addresses = vec![SOURCE_V4; MAX_ADDRESSES + extra];
        let sent = Advertisement { addresses, ..advertisement() };
        let message = sent.encode(SOURCE_V4, Checksum::Message);
        let read = Advertisement::decode(&message, &from(SOURCE_V4)).unwrap();
        prop_assert_eq!(read.addresses.len(), MAX_ADDRESSES);
    }
}
