//! What must hold between the entries of a file: unique names and services, agreement on ownership, no
//! VIP that is a backend's own address, sums within the limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use foobar_common::vip::MAX_RANGES;

use super::report::Problems;
use super::service::Draft;
use super::{Limits, Service};

/// Notes what is wrong between VIPs.
pub(super) fn between_vips(drafts: &[Draft<'_>], problems: &mut Problems<'_>) {
    let mut names = HashMap::new();
    let mut services = HashMap::new();
    let mut owners: HashMap<IpAddr, &Draft<'_>> = HashMap::new();
    for draft in drafts {
        if let Some(name) = &draft.name
            && let Some(first) = first_use(&mut names, *name.get_ref(), name.span())
        {
            let line = problems.line(&first);
            let message = format!("the name {:?} is taken", name.get_ref());
            problems.add(
                name.span(),
                message,
                format!("first on line {line}; each VIP has a name of its own"),
            );
        }
        if let Some(service) = draft.service()
            && let Some(first) = first_use(&mut services, *service.get_ref(), service.span())
        {
            let line = problems.line(&first);
            let message = format!("the service {} is defined twice", service.get_ref());
            problems.add(
                service.span(),
                message,
                format!("first on line {line}; list all its backends there"),
            );
        }
        if let Some(address) = &draft.address {
            let first = owners.entry(*address.get_ref()).or_insert(draft);
            let (ownership, other) = (&draft.ownership, &first.ownership);
            if other.get_ref() != ownership.get_ref() {
                let line = problems.line(&other.span());
                let message = format!("services of {} disagree on who owns it", address.get_ref());
                let hint = format!(
                    "an address is owned as a whole; line {line} says {}",
                    other.get_ref()
                );
                problems.add(ownership.span(), message, hint);
            }
        }
    }
    ranges(drafts, problems);
    for backend in drafts.iter().flat_map(|draft| &draft.backends) {
        let address = backend.get_ref().address;
        if let Some(vip) = owners.get(&address).and_then(|vip| vip.address.as_ref()) {
            let line = problems.line(&vip.span());
            let message = format!("the backend {address} is a VIP's address");
            problems.add(
                backend.span(),
                message,
                format!("VIP on line {line}; use the server's own address"),
            );
        }
    }
}

/// Ranges of ports of one address: at most so many, and those of a protocol without a port in common. A single
/// port may be inside of one.
fn ranges(drafts: &[Draft<'_>], problems: &mut Problems<'_>) {
    let mut seen: HashMap<IpAddr, Vec<(Service, Range<usize>)>> = HashMap::new();
    for draft in drafts {
        let (Some(service), Some(ports)) = (draft.service(), &draft.ports) else {
            continue;
        };
        let service = *service.get_ref();
        if service.ports.single().is_some() {
            continue;
        }
        let others = seen.entry(service.address).or_default();
        let overlapping = others.iter().find(|(other, _)| {
            other.protocol == service.protocol && other.ports.overlap(service.ports) && *other != service
        });
        if let Some((other, first)) = overlapping {
            let line = problems.line(first);
            let message = format!("the ports {} overlap {}", service.ports, other.ports);
            problems.add(
                ports.span(),
                message,
                format!(
                    "line {line}, of the same address and protocol; a single port may be inside of a range"
                ),
            );
        }
        if others.len() == MAX_RANGES {
            let message = format!("{} has more than {MAX_RANGES} ranges of ports", service.address);
            problems.add(ports.span(), message, "use fewer and wider ones");
        }
        others.push((service, ports.span()));
    }
}

fn first_use<K: std::hash::Hash + Eq>(
    seen: &mut HashMap<K, Range<usize>>,
    key: K,
    span: Range<usize>,
) -> Option<Range<usize>> {
    let first = seen.get(&key).cloned();
    if first.is_none() {
        seen.insert(key, span);
    }
    first
}

/// Notes where the VIPs together need more than the limits give, at the first VIP that no longer fits.
pub(super) fn sums(drafts: &[Draft<'_>], limits: &Limits, problems: &mut Problems<'_>) {
    let slots = drafts
        .iter()
        .map(|draft| (u64::from(*draft.slots.get_ref()), draft.slots.span()));
    sum("slots", slots, limits.slots, "give VIPs fewer slots", problems);
    let targets = drafts
        .iter()
        .map(|draft| (draft.backends.len() as u64, draft.header.clone()));
    sum(
        "targets",
        targets,
        limits.targets,
        "list fewer backends",
        problems,
    );
}

fn sum(
    what: &str,
    needs: impl Iterator<Item = (u64, Range<usize>)>,
    limit: u32,
    or: &str,
    problems: &mut Problems<'_>,
) {
    let mut total = 0;
    let mut crossed = None;
    for (need, span) in needs {
        total += need;
        if total > u64::from(limit) && crossed.is_none() {
            crossed = Some(span);
        }
    }
    if let Some(span) = crossed {
        let message = format!("the VIPs need {total} {what}, limits.{what} is {limit}");
        problems.add(
            span,
            message,
            format!("raise limits.{what} to {total} or more, or {or}"),
        );
    }
}
