//! What BIRD 2.0.12 says, read.

use super::super::reply::{Reader, Reply};
use super::*;

fn reply(text: &str) -> Reply {
    let mut reader = Reader::default();
    let mut lines = text.lines();
    lines
        .find_map(|line| reader.line(line).expect("a line of BIRD's"))
        .expect("an answer")
}

fn neighbor(address: &str) -> Neighbor {
    Neighbor {
        address: address.parse().unwrap(),
        remote_as: 64500,
        source: None,
        next_hop: None,
        password_file: None,
        multihop: None,
        gtsm: false,
        bfd: true,
        port: 179,
    }
}

const PROTOCOLS: &str = "\
2002-Name       Proto      Table      State  Since         Info
1002-n_192_0_2_1 BGP        ---        up     1795698086    Established   \n\
1006-  BGP state:          Established
     Neighbor address: 192.0.2.1
     Neighbor capabilities
       Multiprotocol
         AF announced: ipv4 ipv6
     Hold timer:       7.058/9
   Channel ipv4
     State:          UP
     Output filter:  announce_ipv4
     Routes:         0 imported, 1 exported, 0 preferred
     Route change stats:     received   rejected   filtered    ignored   accepted
       Export updates:              1          0          0        ---          1
   Channel ipv6
     State:          UP
     Routes:         0 imported, 12 exported, 0 preferred
 
1002-n_192_0_2_2 BGP        ---        start  1795698171    Connect       Socket: Connection closed
1006-  BGP state:          Connect
     Last error:       Socket: Connection closed
   Channel ipv4
     State:          DOWN
 
0000 
";
const BFD: &str = "\
1020-watch:
 IP address                Interface  State      Since         Interval  Timeout
 192.0.2.1                 eth0       Up         1795698085      0.050    0.150
 192.0.2.2                 eth0       Down       1795698171      1.000    0.000
0000 
";

#[test]
fn sessions_are_told_with_their_states_routes_and_errors() {
    let neighbors = ["192.0.2.2", "192.0.2.1", "192.0.2.3"].map(neighbor);
    let found = sessions(&neighbors, &reply(PROTOCOLS), &reply(BFD));
    let expected = [
        Session {
            state: "connect".to_owned(),
            since: Some(1_795_698_171),
            bfd: Some("down".to_owned()),
            last_error: Some("Socket: Connection closed".to_owned()),
            ..Session::unknown(&neighbors[0])
        },
        Session {
            state: "established".to_owned(),
            since: Some(1_795_698_086),
            bfd: Some("up".to_owned()),
            exported: [("ipv4".to_owned(), 1), ("ipv6".to_owned(), 12)].into(),
            ..Session::unknown(&neighbors[1])
        },
        Session::unknown(&neighbors[2]),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        found.iter().map(Session::is_established).collect::<Vec<_>>(),
        [false, true, false]
    );
}

#[test]
fn where_there_is_nothing_to_say_nothing_is_made_up() {
    let neighbors = [neighbor("192.0.2.1")];
    let none = sessions(
        &neighbors,
        &reply("8003 No protocols match\n"),
        &reply("9001 syntax error\n"),
    );
    assert_eq!(none, [Session::unknown(&neighbors[0])]);
}
