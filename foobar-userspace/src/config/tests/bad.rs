//! One thing wrong with the good file at a time: the exact place and words of the error.

use super::{GOOD, Place, errors};

/// What is replaced in [`GOOD`], by what; the line and column, message and hint of the one error.
type Case = (
    &'static str,
    &'static str,
    (usize, usize),
    &'static str,
    &'static str,
);

const BAD: &[Case] = &[
    (
        "peer_macs",
        "peer_mcas",
        (2, 1),
        "unknown key `peer_mcas`",
        "did you mean `peer_macs`?",
    ),
    (
        "interface = \"eth0\"",
        "",
        (1, 1),
        "`interface` is missing",
        "add interface = \"eth0\"",
    ),
    (
        "port = 443",
        "port = 443\nzebra = 1",
        (8, 1),
        "unknown key `zebra`",
        "known here: name, address, port, protocol, owned, slots, table, idle_timeout, drain_timeout, unserved, check, backend",
    ),
    (
        "weight = 50",
        "wieght = 50",
        (16, 1),
        "unknown key `wieght`",
        "did you mean `weight`?",
    ),
    (
        "\"eth0\"",
        "7",
        (1, 13),
        "interface must be a string, this is a whole number",
        "put it in quotes",
    ),
    (
        "port = 443",
        "port = \"443\"",
        (7, 8),
        "port must be a whole number, this is a string",
        "leave the quotes out",
    ),
    (
        "port = 443",
        "port = 443\nowned = \"yes\"",
        (8, 9),
        "owned must be true or false, this is a string",
        "leave the quotes out",
    ),
    (
        "[\"02:00:00:00:00:02\"]",
        "\"02:00:00:00:00:02\"",
        (2, 13),
        "peer_macs must be an array of strings, this is a string",
        "put it in brackets: [\"...\"]",
    ),
    (
        "\"eth0\"",
        "\"abcdefghijklmnop\"",
        (1, 13),
        "the interface name \"abcdefghijklmnop\" is too long: 16 bytes",
        "Linux names have at most 15; see `ip link`",
    ),
    (
        "\"eth0\"",
        "\"eth 0\"",
        (1, 13),
        "\"eth 0\" cannot be an interface's name",
        "see `ip link` for the names",
    ),
    (
        "02:00:00:00:00:02",
        "02-00-00-00-00-02",
        (2, 14),
        "\"02-00-00-00-00-02\" is not a MAC address",
        "six pairs of hex digits with colons: \"02:00:00:00:00:02\"",
    ),
    (
        "02:00:00:00:00:02",
        "+2:00:00:00:00:02",
        (2, 14),
        "\"+2:00:00:00:00:02\" is not a MAC address",
        "six pairs of hex digits with colons: \"02:00:00:00:00:02\"",
    ),
    (
        "02:00:00:00:00:02",
        "ff:ff:ff:ff:ff:ff",
        (2, 14),
        "ff:ff:ff:ff:ff:ff is not the MAC of a host",
        "a group, broadcast or zero address; see `ip link` on the peer",
    ),
    (
        "[\"02:",
        "[\"02:00:00:00:00:02\", \"02:",
        (2, 35),
        "02:00:00:00:00:02 is in peer_macs twice",
        "first on line 2",
    ),
    (
        "\"dns\"",
        "\"site-a\"",
        (19, 8),
        "the name \"site-a\" is taken",
        "first on line 5; each VIP has a name of its own",
    ),
    (
        "\"dns\"",
        "\"DNS\"",
        (19, 8),
        "\"DNS\" cannot be a VIP's name",
        "1 to 63 of a-z, 0-9 and -",
    ),
    (
        "name = \"dns\"\n",
        "",
        (18, 1),
        "`name` is missing",
        "add name = \"site-a\"",
    ),
    (
        "192.0.2.102\"\nport = 53\nprotocol = \"udp\"",
        "192.0.2.101\"\nport = 443",
        (20, 11),
        "the service 192.0.2.101:443/tcp is defined twice",
        "first on line 6; list all its backends there",
    ),
    (
        "192.0.2.101",
        "192.0.2.300",
        (6, 11),
        "\"192.0.2.300\" is not an IP address",
        "such as \"192.0.2.101\"",
    ),
    (
        "192.0.2.101",
        "www.example.com",
        (6, 11),
        "\"www.example.com\" is not an IP address",
        "an address, not a name: \"192.0.2.101\"",
    ),
    (
        "192.0.2.101",
        "192.0.2.101/32",
        (6, 11),
        "\"192.0.2.101/32\" is not an IP address",
        "without a prefix length: one address",
    ),
    (
        "192.0.2.101",
        "192.0.2.101:443",
        (6, 11),
        "\"192.0.2.101:443\" is not an IP address",
        "without a port, which has a key of its own",
    ),
    (
        "192.0.2.101",
        "224.0.0.18",
        (6, 11),
        "224.0.0.18 cannot be a VIP: it is a multicast address",
        "use an address that clients can reach",
    ),
    (
        "192.0.2.101",
        "127.0.0.1",
        (6, 11),
        "127.0.0.1 cannot be a VIP: it is a loopback address",
        "use an address that clients can reach",
    ),
    (
        "192.0.2.101",
        "0.0.0.0",
        (6, 11),
        "0.0.0.0 cannot be a VIP: it is the unspecified address",
        "use an address that clients can reach",
    ),
    (
        "192.0.2.102",
        "2001:db8::1",
        (20, 11),
        "the VIP 2001:db8::1 is IPv6, which this release does not support yet",
        "a limit of this release: VIPs are IPv4 only",
    ),
    (
        "192.0.2.21",
        "2001:db8::21",
        (13, 11),
        "the backend 2001:db8::21 is IPv6, its VIP 192.0.2.101 is IPv4",
        "use the server's IPv4 address",
    ),
    (
        "192.0.2.21",
        "127.0.0.1",
        (13, 11),
        "127.0.0.1 cannot be a backend: it is a loopback address",
        "use the server's own address",
    ),
    (
        "192.0.2.21",
        "192.0.2.102",
        (13, 11),
        "the backend 192.0.2.102 is a VIP's address",
        "VIP on line 20; use the server's own address",
    ),
    (
        "192.0.2.22",
        "192.0.2.21",
        (15, 11),
        "the backend 192.0.2.21 is in this VIP twice",
        "first on line 13",
    ),
    (
        "weight = 50",
        "port = 8443",
        (16, 8),
        "the backend's port 8443 is not the VIP's, 443",
        "there is no port translation: leave the key out",
    ),
    (
        "weight = 50",
        "weight = 257",
        (16, 10),
        "weight is out of range: 257",
        "from 0 to 256",
    ),
    (
        "weight = 50",
        "weight = -1",
        (16, 10),
        "weight is out of range: -1",
        "from 0 to 256",
    ),
    (
        "weight = 50",
        "weight = 1.5",
        (16, 10),
        "weight must be a whole number, this is a number with a fraction",
        "",
    ),
    (
        "port = 53",
        "port = 0",
        (21, 8),
        "port is out of range: 0",
        "from 1 to 65535",
    ),
    (
        "port = 53",
        "port = 53\nslots = 1000",
        (22, 9),
        "slots must be a power of two, 1000 is not",
        "512 or 1024",
    ),
    (
        "port = 53",
        "port = 53\nslots = 128",
        (22, 9),
        "slots is out of range: 128",
        "from 256 to 65536",
    ),
    (
        "port = 53",
        "port = 53\ntable = \"magelv\"",
        (22, 9),
        "table cannot be \"magelv\"",
        "did you mean `maglev`?",
    ),
    (
        "\"udp\"",
        "\"sctp\"",
        (22, 12),
        "protocol cannot be \"sctp\"",
        "one of tcp, udp",
    ),
    (
        "port = 53",
        "port = 53\nidle_timeout = 120",
        (22, 16),
        "idle_timeout must be a duration, this is a whole number",
        "give the number a unit: \"120s\" or \"120ms\"",
    ),
    (
        "port = 53",
        "port = 53\nidle_timeout = \"2 min\"",
        (22, 16),
        "idle_timeout: \"2 min\": the duration's unit is not one of ms, s, m, h",
        "write it as \"500ms\", \"2s\", \"15m\" or \"1h\"",
    ),
    (
        "port = 53",
        "port = 53\nidle_timeout = \"10ms\"",
        (22, 16),
        "idle_timeout is out of range: \"10ms\"",
        "from 1s to 55m",
    ),
    (
        "\"192.0.2.102\"",
        "\"192.0.2.101\"\nowned = false",
        (21, 9),
        "services of 192.0.2.101 disagree on `owned`",
        "an address is owned as a whole; it is owned by line 4",
    ),
    (
        "\"https\"\nhost = \"www.example.com\"\npath = \"/healthz\"",
        "\"tcp\"\nport = 443\nstatus = 200",
        (11, 1),
        "`status` does not fit a check of kind \"tcp\"",
        "it is for kind \"http\" or \"https\"",
    ),
    (
        "\"udp\"",
        "\"udp\"\ncheck = { kind = \"none\", rise = 1 }",
        (23, 26),
        "`rise` does not fit a check of kind \"none\"",
        "remove it, or choose another kind",
    ),
    (
        "kind = \"https\"\n",
        "",
        (8, 1),
        "`kind` is missing",
        "add kind = \"tcp\", \"http\", \"https\" or \"none\"",
    ),
    (
        "\"www.example.com\"",
        "\"https://www.example.com\"",
        (10, 8),
        "\"https://www.example.com\" is not a host name",
        "such as \"www.example.com\", without scheme or port",
    ),
    (
        "\"/healthz\"",
        "\"healthz\"",
        (11, 8),
        "\"healthz\" is not a request path",
        "begin with /, percent-encode what is not plain ASCII",
    ),
    (
        "\"eth0\"",
        "\"eth0\"\nlimits.slots = 65536",
        (19, 1),
        "the VIPs need 131072 slots, limits.slots is 65536",
        "raise limits.slots to 131072 or more, or give VIPs fewer slots",
    ),
    (
        "\"eth0\"",
        "\"eth0\"\nlimits.targets = 1",
        (5, 1),
        "the VIPs need 2 targets, limits.targets is 1",
        "raise limits.targets to 2 or more, or list fewer backends",
    ),
    (
        "\"eth0\"",
        "\"eth0\"\nlimits.targets = 40000",
        (2, 18),
        "targets is out of range: 40000",
        "from 1 to 32767",
    ),
    (
        "port = 53",
        "port = ",
        (21, 8),
        "syntax: string values must be quoted, expected literal string",
        "",
    ),
    (
        "port = 53",
        "port = 53\nport = 54",
        (22, 1),
        "syntax: duplicate key",
        "",
    ),
];

#[test]
fn each_bad_file_is_told_with_line_column_message_and_hint() {
    for (from, to, (line, column), message, hint) in BAD {
        assert!(GOOD.contains(from), "{from:?} is not in the good file");
        let found = errors(&GOOD.replacen(from, to, 1));
        let [error] = found.as_slice() else {
            panic!("{to:?}: one error expected: {found:#?}")
        };
        assert_eq!(error.message, *message, "{to:?}");
        assert_eq!(
            error.place,
            Some(Place {
                line: *line,
                column: *column
            }),
            "{to:?}"
        );
        assert_eq!(error.hint.as_deref().unwrap_or_default(), *hint, "{to:?}");
    }
}
