//! What the zone answers to a question: no socket, no clock, no message encoding.
//!
//! The turn of the rotation and what is known of addresses are given by the caller, so that a question's answer is a
//! pure function.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

use crate::config::Check;

/// Refresh, retry and expire of the SOA, in seconds. They are for secondaries, and this zone is never
/// transferred; the values are the usual ones.
const REFRESH: i32 = 3600;
const RETRY: i32 = 600;
const EXPIRE: i32 = 86_400;
/// The zone has no history that a serial could tell apart: there are no transfers.
const SERIAL: u32 = 1;
/// Time to live of NS and SOA in the answer section, in seconds: they change less often than addresses.
const NS_TTL: u32 = 3600;

/// One question of a query.
#[derive(Debug, Clone)]
pub struct Question {
    /// The name asked for, in lower case
    pub name: LowerName,
    /// The record type
    pub record_type: RecordType,
    /// The class
    pub class: DNSClass,
}

/// What goes into the reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// NoError, NXDomain or Refused
    pub code: ResponseCode,
    /// The AA bit
    pub authoritative: bool,
    /// The answer section
    pub answers: Vec<Record>,
    /// The SOA of a negative answer (RFC 2308)
    pub soa: Option<Record>,
    /// Addresses of the name servers named in the answers
    pub additionals: Vec<Record>,
}

/// The checked parts that a zone is made of; all names fully qualified.
#[derive(Debug)]
pub(super) struct ZoneParts {
    pub(super) origin: Name,
    pub(super) primary: Name,
    pub(super) contact: Name,
    pub(super) ttl: u32,
    pub(super) negative_ttl: u32,
    pub(super) names: Vec<Named>,
}

/// A name with its addresses.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Name,
    pub(super) addresses: Vec<IpAddr>,
    /// How it is found out which of them serve; none: all are taken to.
    pub(super) check: Option<Check>,
}

/// An address that is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Of this name
    pub name: Name,
    /// The address
    pub address: IpAddr,
    /// How
    pub check: Check,
}

/// An authoritative zone of A and AAAA records.
#[derive(Debug)]
pub struct Zone {
    origin: LowerName,
    ttl: u32,
    soa: Record,
    negative_soa: Record,
    ns: Record,
    primary: LowerName,
    sets: Vec<AddressSet>,
    checked: Vec<Checked>,
}

/// The addresses of one name and family; never empty.
#[derive(Debug)]
struct AddressSet {
    lower: LowerName,
    name: Name,
    record_type: RecordType,
    /// Each with its place among the checked ones.
    addresses: Vec<(IpAddr, Option<usize>)>,
}

impl Zone {
    pub(super) fn new(parts: ZoneParts) -> Self {
        let ZoneParts {
            origin,
            primary,
            contact,
            ttl,
            negative_ttl,
            names,
        } = parts;
        let soa = SOA::new(
            primary.clone(),
            contact,
            SERIAL,
            REFRESH,
            RETRY,
            EXPIRE,
            negative_ttl,
        );
        let mut checked = Vec::new();
        let sets = names
            .into_iter()
            .flat_map(|named| AddressSet::of(&named, &mut checked))
            .collect();
        let soa_record = |ttl| Record::from_rdata(origin.clone(), ttl, RData::SOA(soa.clone()));
        Self {
            origin: LowerName::new(&origin),
            ttl,
            soa: soa_record(NS_TTL),
            negative_soa: soa_record(negative_ttl.min(NS_TTL)),
            ns: Record::from_rdata(origin.clone(), NS_TTL, RData::NS(NS(primary.clone()))),
            primary: LowerName::new(&primary),
            sets,
            checked,
        }
    }

    /// The addresses that are to be checked.
    #[must_use]
    pub fn checked(&self) -> &[Checked] {
        &self.checked
    }

    /// The zone's name.
    #[must_use]
    pub const fn origin(&self) -> &LowerName {
        &self.origin
    }

    /// How many record sets of addresses there are, and so how many rotations a server keeps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether no name has an address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Answers a question. `turn` is asked for the rotation of the record set with that index, and only
    /// where its addresses go into the answer section. `serves` says so of the address with that place in
    /// [`checked`](Self::checked); where none of a set does, all are answered: the checks may be what is wrong.
    pub fn answer(
        &self,
        question: &Question,
        turn: impl FnOnce(usize) -> usize,
        serves: impl Fn(usize) -> bool,
    ) -> Answer {
        if question.class != DNSClass::IN
            || !self.origin.zone_of(&question.name)
            || matches!(question.record_type, RecordType::AXFR | RecordType::IXFR)
        {
            return Answer {
                code: ResponseCode::Refused,
                authoritative: false,
                answers: Vec::new(),
                soa: None,
                additionals: Vec::new(),
            };
        }
        let is_apex = question.name == self.origin;
        let exists = self.sets.iter().any(|set| set.lower == question.name);
        // To ANY one record set is answer enough (RFC 8482 section 4.1).
        let set = self.sets.iter().position(|set| {
            set.lower == question.name && [set.record_type, RecordType::ANY].contains(&question.record_type)
        });
        match (question.record_type, set) {
            (_, Some(index)) => self.positive(
                self.sets[index].records(self.ttl, turn(index), &serves),
                Vec::new(),
            ),
            (RecordType::SOA | RecordType::ANY, _) if is_apex => {
                self.positive(vec![self.soa.clone()], Vec::new())
            }
            (RecordType::NS, _) if is_apex => self.positive(vec![self.ns.clone()], self.glue(&serves)),
            _ if is_apex || exists || self.has_descendant(&question.name) => {
                self.negative(ResponseCode::NoError)
            }
            _ => self.negative(ResponseCode::NXDomain),
        }
    }

    fn positive(&self, answers: Vec<Record>, additionals: Vec<Record>) -> Answer {
        Answer {
            code: ResponseCode::NoError,
            authoritative: true,
            answers,
            soa: None,
            additionals,
        }
    }

    fn negative(&self, code: ResponseCode) -> Answer {
        Answer {
            code,
            authoritative: true,
            answers: Vec::new(),
            soa: Some(self.negative_soa.clone()),
            additionals: Vec::new(),
        }
    }

    fn glue(&self, serves: &impl Fn(usize) -> bool) -> Vec<Record> {
        self.sets
            .iter()
            .filter(|set| set.lower == self.primary)
            .flat_map(|set| set.records(self.ttl, 0, serves))
            .collect()
    }

    /// A name between two that exist exists as well, without data (RFC 8020).
    fn has_descendant(&self, name: &LowerName) -> bool {
        self.sets.iter().any(|set| name.zone_of(&set.lower))
    }
}

impl AddressSet {
    /// The sets of one name: a browser asks for A and AAAA together, and each has its own rotation.
    fn of(named: &Named, checked: &mut Vec<Checked>) -> Vec<Self> {
        let mut place = |address: IpAddr| {
            let check = named.check.clone()?;
            checked.push(Checked {
                name: named.name.clone(),
                address,
                check,
            });
            Some(checked.len() - 1)
        };
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .map(|record_type| Self {
                lower: LowerName::new(&named.name),
                name: named.name.clone(),
                record_type,
                addresses: named
                    .addresses
                    .iter()
                    .filter(|address| address.is_ipv4() == (record_type == RecordType::A))
                    .map(|address| (*address, place(*address)))
                    .collect(),
            })
            .filter(|set| !set.addresses.is_empty())
            .collect()
    }

    fn records(&self, ttl: u32, turn: usize, serves: &impl Fn(usize) -> bool) -> Vec<Record> {
        let all = || self.addresses.iter().map(|(address, _)| *address);
        let mut serving: Vec<IpAddr> = self
            .addresses
            .iter()
            .filter(|(_, place)| place.is_none_or(serves))
            .map(|(address, _)| *address)
            .collect();
        if serving.is_empty() {
            serving = all().collect();
        }
        let first = turn % serving.len();
        let (end, start) = serving.split_at(first);
        start
            .iter()
            .chain(end)
            .map(|address| {
                let data = match address {
                    IpAddr::V4(address) => RData::A(A(*address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
                };
                Record::from_rdata(self.name.clone(), ttl, data)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Probe, Timing};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn named(text: &str, addresses: Vec<IpAddr>, is_checked: bool) -> Named {
        Named {
            name: name(text),
            addresses,
            check: is_checked.then(|| Check {
                port: 443,
                probe: Probe::Tcp,
                timing: Timing::default(),
            }),
        }
    }

    fn zone() -> Zone {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let v6 = |last| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        Zone::new(ZoneParts {
            origin: name("wwwfoobar.com."),
            primary: name("dns1.wwwfoobar.com."),
            contact: name("hostmaster.wwwfoobar.com."),
            ttl: 10,
            negative_ttl: 7,
            names: vec![
                named(
                    "wwwfoobar.com.",
                    vec![address(101), address(102), address(103)],
                    false,
                ),
                named("dns1.wwwfoobar.com.", vec![v6(0x53), address(53)], false),
                named("six.wwwfoobar.com.", vec![v6(1), v6(2)], false),
                named("a.deep.wwwfoobar.com.", vec![address(9)], false),
                named(
                    "checked.wwwfoobar.com.",
                    vec![address(1), v6(1), address(2), address(3)],
                    true,
                ),
            ],
        })
    }

    fn ask(text: &str, record_type: RecordType, turn: usize) -> Answer {
        let question = Question {
            name: LowerName::new(&name(text)),
            record_type,
            class: DNSClass::IN,
        };
        zone().answer(&question, |_| turn, |_| panic!("nothing of this is checked"))
    }

    fn last_octets(answer: &Answer) -> Vec<u8> {
        answer
            .answers
            .iter()
            .map(|record| match &record.data {
                RData::A(a) => a.0.octets()[3],
                RData::AAAA(a) => a.0.octets()[15],
                other => panic!("not an address: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn addresses_rotate_with_the_turn() {
        let orders: Vec<_> = (0..4)
            .map(|turn| last_octets(&ask("wwwfoobar.com.", RecordType::A, turn)))
            .collect();
        assert_eq!(
            orders,
            [[101, 102, 103], [102, 103, 101], [103, 101, 102], [101, 102, 103]]
        );
        assert!(ask("wwwfoobar.com.", RecordType::A, usize::MAX).authoritative);
        let turned = |turn| last_octets(&ask("six.wwwfoobar.com.", RecordType::AAAA, turn));
        assert_eq!([turned(0), turned(1)], [[1, 2], [2, 1]]);
    }

    #[test]
    fn each_family_of_a_name_is_a_record_set_of_its_own() {
        let of = |record_type| last_octets(&ask("dns1.wwwfoobar.com.", record_type, 0));
        assert_eq!(of(RecordType::A), [53]);
        assert_eq!(of(RecordType::AAAA), [0x53]);
        assert_eq!(of(RecordType::ANY), [53], "one set is answer enough");
        assert_eq!(zone().len(), 7);
    }

    #[test]
    fn an_existing_name_without_such_data_is_no_error_with_soa() {
        for (text, record_type) in [
            ("wwwfoobar.com.", RecordType::AAAA),
            ("six.wwwfoobar.com.", RecordType::A),
            ("dns1.wwwfoobar.com.", RecordType::NS),
            ("dns1.wwwfoobar.com.", RecordType::SOA),
            ("deep.wwwfoobar.com.", RecordType::A),
        ] {
            let answer = ask(text, record_type, 0);
            assert_eq!(answer.code, ResponseCode::NoError, "{text}");
            assert!(answer.authoritative && answer.answers.is_empty(), "{text}");
            assert_eq!(answer.soa.unwrap().ttl, 7, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_nxdomain_with_soa() {
        let answer = ask("nobody.wwwfoobar.com.", RecordType::A, 0);
        assert_eq!(answer.code, ResponseCode::NXDomain);
        assert!(answer.authoritative);
        assert_eq!(answer.soa.unwrap().record_type(), RecordType::SOA);
    }

    #[test]
    fn other_zones_classes_and_transfers_are_refused() {
        for (text, record_type) in [
            ("example.com.", RecordType::A),
            ("com.", RecordType::NS),
            ("notwwwfoobar.com.", RecordType::A),
            ("wwwfoobar.com.", RecordType::AXFR),
        ] {
            let answer = ask(text, record_type, 0);
            assert_eq!(answer.code, ResponseCode::Refused, "{text}");
            assert!(!answer.authoritative && answer.soa.is_none(), "{text}");
        }
        let chaos = Question {
            name: LowerName::new(&name("wwwfoobar.com.")),
            record_type: RecordType::A,
            class: DNSClass::CH,
        };
        assert_eq!(zone().answer(&chaos, |_| 0, |_| true).code, ResponseCode::Refused);
    }

    #[test]
    fn the_apex_has_soa_and_ns_with_glue() {
        assert_eq!(ask("wwwfoobar.com.", RecordType::SOA, 0).answers.len(), 1);
        let ns = ask("wwwfoobar.com.", RecordType::NS, 0);
        assert_eq!(ns.answers.len(), 1);
        assert_eq!(ns.additionals.len(), 2, "an address of each family");
        assert_eq!(ns.additionals[0].name, name("dns1.wwwfoobar.com."));
    }

    #[test]
    fn only_an_answer_with_addresses_takes_a_turn() {
        let question = |record_type| Question {
            name: LowerName::new(&name("wwwfoobar.com.")),
            record_type,
            class: DNSClass::IN,
        };
        let all = |_| true;
        zone().answer(&question(RecordType::AAAA), |_| panic!("AAAA took a turn"), all);
        zone().answer(&question(RecordType::NS), |_| panic!("NS took a turn"), all);
        let mut asked = None;
        let turn = |index| {
            asked = Some(index);
            0
        };
        zone().answer(&question(RecordType::A), turn, all);
        assert_eq!(asked, Some(0));
    }

    #[test]
    fn an_address_that_does_not_serve_is_left_out_unless_none_does() {
        let zone = zone();
        assert_eq!(zone.checked().len(), 4);
        let down = |addresses: &[&str]| {
            let question = |record_type| Question {
                name: LowerName::new(&name("checked.wwwfoobar.com.")),
                record_type,
                class: DNSClass::IN,
            };
            let serves = |place: usize| {
                let address = zone.checked()[place].address.to_string();
                !addresses.contains(&address.as_str())
            };
            [RecordType::A, RecordType::AAAA]
                .map(|record_type| last_octets(&zone.answer(&question(record_type), |_| 1, serves)))
        };
        assert_eq!(down(&[]), [vec![2, 3, 1], vec![1]]);
        assert_eq!(down(&["192.0.2.2"]), [vec![3, 1], vec![1]]);
        assert_eq!(down(&["192.0.2.1", "192.0.2.3"]), [vec![2], vec![1]]);
        assert_eq!(
            down(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8:0:1::1"]),
            [vec![2, 3, 1], vec![1]],
            "never an empty answer"
        );
    }
}
