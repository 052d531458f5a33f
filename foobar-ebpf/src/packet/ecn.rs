//! Explicit congestion notification in tunnels (RFC 3168, RFC 6040).

/// The bits of TOS and traffic class that are ECN's.
pub const MASK: u8 = 3;

/// The transport does not know ECN.
pub const NOT_ECT: u8 = 0;
/// The transport knows ECN, and may tell so by this codepoint, too.
pub const ECT_1: u8 = 1;
/// The transport knows ECN.
pub const ECT_0: u8 = 2;
/// There was congestion.
pub const CE: u8 = 3;

/// The ECN field of a packet that leaves a tunnel, from the outer header's and its own (RFC 6040 section 4.2,
/// figure 4); `None`: it is to be dropped. Only the lowest two bits of either count.
#[inline(always)]
pub const fn leaving(outer: u8, inner: u8) -> Option<u8> {
    match (outer & MASK, inner & MASK) {
        (CE, NOT_ECT) => None,
        (CE, _) | (_, CE) => Some(CE),
        (ECT_1, ECT_0) => Some(ECT_1),
        (_, inner) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_figure_of_the_rfc() {
        let figure = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in figure {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(leaving(outer | 0xb8, inner | 0xb8), expected, "{outer} {inner}");
            }
        }
    }
}
