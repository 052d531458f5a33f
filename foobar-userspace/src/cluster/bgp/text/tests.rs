//! The text as it stands, and BIRD's own judgement on it.

use std::process::Command;
use std::time::Duration;

use super::*;
use crate::config::{Announcement, AttributeGroup, Bfd, Withdrawing};

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

fn wanted(neighbors: Vec<Neighbor>) -> Wanted {
    let address = |text: &&str| text.parse().unwrap();
    let vips = ["203.0.113.1", "203.0.113.2", "2001:db8:0:2::1"];
    Wanted {
        passwords: vec![None; neighbors.len()],
        config: Bgp {
            router_id: [192, 0, 2, 11].into(),
            local_as: 64512,
            attributes: Attributes::default(),
            groups: Vec::new(),
            hold_time: Duration::from_secs(9),
            bfd: Bfd {
                interval: Duration::from_millis(300),
                multiplier: 3,
            },
            track: Withdrawing {
                no_backend: Announcement::Withdrawn,
                detached: Announcement::Withdrawn,
                canary: Announcement::Withdrawn,
                differing: Announcement::Kept,
            },
            bird: None,
            neighbors,
        },
        vips: vips
            .iter()
            .map(|vip| (address(vip), Attributes::default()))
            .collect(),
        announced: [&vips[0], &vips[2]].map(address).into(),
    }
}

/// Everything that can be said, to three neighbors.
fn everything() -> Wanted {
    let six = Neighbor {
        bfd: false,
        port: 1790,
        ..neighbor("2001:db8:0:1::1")
    };
    let far = Neighbor {
        source: Some("192.0.2.11".parse().unwrap()),
        next_hop: Some("2001:db8:0:1::11".parse().unwrap()),
        multihop: Some(2),
        gtsm: true,
        // Our own AS.
        remote_as: 64512,
        ..neighbor("198.51.100.1")
    };
    let mut wanted = wanted(vec![neighbor("192.0.2.1"), six, far]);
    let usual = Attributes {
        med: Some(50),
        prepend: 2,
        communities: Vec::new(),
    };
    let standby = Attributes {
        med: Some(100),
        prepend: 1,
        communities: vec![
            Community::Standard(64512, 100),
            Community::Standard(0xffff, 0xff01),
            Community::Large(64512, 1, u32::MAX),
        ],
    };
    wanted.vips.values_mut().for_each(|has| *has = usual.clone());
    let second = "203.0.113.2".parse().unwrap();
    wanted.vips.insert(second, standby.clone());
    wanted.config.attributes = usual;
    wanted.config.groups = vec![AttributeGroup {
        name: "standby".to_owned(),
        attributes: standby,
    }];
    wanted.passwords[2] = Some(Password::new("s3cret").unwrap());
    wanted
}

#[test]
fn it_announces_what_is_wanted_lets_out_nothing_else_and_takes_nothing() {
    let expected = r#"# Written by foobar, again at each change.
log stderr all;
router id 192.0.2.11;
timeformat protocol "%s";
protocol device { }
protocol bfd watch {
  interface "*" { interval 300000 us; multiplier 3; };
  multihop { interval 300000 us; multiplier 3; };
}
protocol static vips_ipv4 {
  ipv4;
  route 203.0.113.1/32 unreachable;
}
filter announce_ipv4 {
  if proto = "vips_ipv4" && net ~ [ 203.0.113.1/32 ] then {
    bgp_med = 50;
    bgp_path.prepend(64512);
    bgp_path.prepend(64512);
    accept;
  }
  if proto = "vips_ipv4" && net ~ [ 203.0.113.2/32 ] then {
    bgp_med = 100;
    bgp_path.prepend(64512);
    bgp_community.add((64512,100));
    bgp_community.add((65535,65281));
    bgp_large_community.add((64512,1,4294967295));
    accept;
  }
  reject;
}
filter announce_ipv4_internal {
  if proto = "vips_ipv4" && net ~ [ 203.0.113.1/32 ] then {
    bgp_med = 50;
    accept;
  }
  if proto = "vips_ipv4" && net ~ [ 203.0.113.2/32 ] then {
    bgp_med = 100;
    bgp_community.add((64512,100));
    bgp_community.add((65535,65281));
    bgp_large_community.add((64512,1,4294967295));
    accept;
  }
  reject;
}
protocol static vips_ipv6 {
  ipv6;
  route 2001:db8:0:2::1/128 unreachable;
}
filter announce_ipv6 {
  if proto = "vips_ipv6" && net ~ [ 2001:db8:0:2::1/128 ] then {
    bgp_med = 50;
    bgp_path.prepend(64512);
    bgp_path.prepend(64512);
    accept;
  }
  reject;
}
filter announce_ipv6_internal {
  if proto = "vips_ipv6" && net ~ [ 2001:db8:0:2::1/128 ] then {
    bgp_med = 50;
    accept;
  }
  reject;
}
protocol bgp n_192_0_2_1 {
  local as 64512;
  neighbor 192.0.2.1 port 179 as 64500;
  direct;
  hold time 9;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 8;
  graceful restart off;
  long lived graceful restart off;
  bfd on;
  ipv4 { import none; export filter announce_ipv4; next hop self; };
}
protocol bgp n_2001_db8_0_1__1 {
  local as 64512;
  neighbor 2001:db8:0:1::1 port 1790 as 64500;
  direct;
  hold time 9;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 8;
  graceful restart off;
  long lived graceful restart off;
  ipv6 { import none; export filter announce_ipv6; next hop self; };
}
protocol bgp n_198_51_100_1 {
  local 192.0.2.11 as 64512;
  neighbor 198.51.100.1 port 179 as 64512;
  multihop 2;
  ttl security on;
  password "s3cret";
  hold time 9;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 8;
  graceful restart off;
  long lived graceful restart off;
  bfd on;
  ipv4 { import none; export filter announce_ipv4_internal; next hop self; };
  ipv6 { import none; export filter announce_ipv6_internal; next hop address 2001:db8:0:1::11; };
}
"#;
    assert_eq!(text(&everything()), expected);
}

#[test]
fn vips_that_have_the_same_attributes_are_let_out_together() {
    let text = text(&wanted(vec![neighbor("192.0.2.1")]));
    let filter = "filter announce_ipv4 {\n  if proto = \"vips_ipv4\" && net ~ [ 203.0.113.1/32, 203.0.113.2/32 ] \
                  then {\n    accept;\n  }\n  reject;\n}";
    assert!(text.contains(filter) && !text.contains("_internal"), "{text}");
}

#[test]
fn without_vips_of_a_family_nothing_of_it_is_let_out() {
    let mut wanted = wanted(vec![neighbor("192.0.2.1")]);
    wanted.vips.clear();
    wanted.announced.clear();
    let text = text(&wanted);
    assert!(text.contains("filter announce_ipv4 {\n  reject;\n}"), "{text}");
    assert!(!text.contains("route "), "{text}");
}

/// Whether BIRD takes the text.
fn judged(text: &str) -> Result<(), String> {
    let directory = std::env::temp_dir().join(format!("foobar-bird-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    // Tests of this process run at the same time.
    let file = directory.join(format!("{:?}.conf", std::thread::current().id()));
    std::fs::write(&file, text).unwrap();
    let output = Command::new("/usr/sbin/bird")
        .arg("-p")
        .arg("-c")
        .arg(&file)
        .output()
        .expect("bird is installed: `cargo xtask setup`");
    std::fs::remove_file(&file).unwrap();
    // Not empty yet is as good.
    let _ = std::fs::remove_dir(&directory);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}

#[test]
fn bird_takes_every_text() {
    let mut empty = wanted(vec![neighbor("192.0.2.1")]);
    empty.vips.clear();
    empty.announced.clear();
    let mut silent = wanted(vec![Neighbor {
        bfd: false,
        ..neighbor("192.0.2.1")
    }]);
    silent.announced.clear();
    for wanted in [everything(), empty, silent] {
        let text = text(&wanted);
        assert_eq!(judged(&text), Ok(()), "{text}");
    }
    assert!(judged("protocol bgp { nonsense; }").is_err());
}
