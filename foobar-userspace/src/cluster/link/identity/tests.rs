//! The directory, and how it comes to know others.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A directory of a test's own, gone with it.
pub(in crate::cluster::link) struct Scratch(PathBuf);

impl Scratch {
    pub(in crate::cluster::link) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("foobar-link-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    pub(in crate::cluster::link) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 7117))
}

fn refusal<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn three_come_to_know_each_other_by_invitations_and_cards() {
    let scratch = Scratch::new("three");
    let mut one = Identity::found(&scratch.path("lb1"), "lb1", address(11)).expect("founded");
    let mut two = Identity::join(
        &scratch.path("lb2"),
        "lb2",
        address(12),
        &one.invitation().expect("invites"),
    )
    .expect("joined");
    assert!(one.admit(&two.card()).expect("admitted"));
    let three = Identity::join(
        &scratch.path("lb3"),
        "lb3",
        address(13),
        &two.invitation().expect("invites"),
    )
    .expect("joined");
    assert!(one.admit(&three.card()).expect("admitted"));
    assert!(two.admit(&three.card()).expect("admitted"));
    assert!(!two.admit(&three.card()).expect("again"), "it is known");
    let card = toml::to_string(&three.card()).expect("text");
    assert!(!card.contains('\r'), "{card}");
    assert_eq!(toml::from_str::<Card>(&card).expect("a card"), three.card());
    let names = |identity: &Identity| -> Vec<Node> {
        let loaded = Identity::load(&identity.directory).expect("loaded");
        assert_eq!(loaded.peers, identity.peers);
        loaded.peers.into_iter().map(|peer| peer.name).collect()
    };
    assert_eq!(names(&one), ["lb2", "lb3"]);
    assert_eq!(names(&two), ["lb1", "lb3"]);
    assert_eq!(names(&three), ["lb2", "lb1"]);
    assert_eq!(one.seed().expect("a seed"), three.seed().expect("a seed"));
}

#[test]
fn names_and_addresses_are_taken_once() {
    let scratch = Scratch::new("taken");
    let mut one = Identity::found(&scratch.path("lb1"), "lb1", address(11)).expect("founded");
    let invitation = one.invitation().expect("invites");
    let join = |name, address| Identity::join(&scratch.path("other"), name, address, &invitation);
    assert!(refusal(join("lb1", address(12))).contains("named lb1 already"));
    assert!(refusal(join("lb2", address(11))).contains("lb1's address"));
    assert!(refusal(join("LB2", address(12))).contains("can't be a balancer's name"));
    assert!(refusal(join("lb2", "0.0.0.0:7117".parse().expect("an address"))).contains("connect to"));
    let two = join("lb2", address(12)).expect("joined");
    assert!(refusal(join("lb3", address(13))).contains("holds a cluster already"));
    one.admit(&two.card()).expect("admitted");
    let twin = Card {
        name: "lb3".to_owned(),
        address: address(13),
        ..two.card()
    };
    assert!(refusal(one.admit(&twin)).contains("the same certificate"));
    let other = Identity::found(&scratch.path("foreign"), "lb9", address(19)).expect("founded");
    assert!(refusal(one.admit(&other.card())).contains("is of cluster"));
    assert!(refusal(one.expel("lb7")).contains("there are: lb2"));
}

#[test]
fn secrets_that_others_may_read_are_refused() {
    let scratch = Scratch::new("secrets");
    let path = scratch.path("lb1");
    Identity::found(&path, "lb1", address(11)).expect("founded");
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700);
    for secret in [SEED, KEY] {
        let file = path.join(secret);
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(refusal(Identity::load(&path)).contains("may be read by others"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    }
    Identity::load(&path).expect("loaded");
}

#[test]
fn a_renewal_that_was_begun_twice_has_one_new_certificate_and_ends_once() {
    let scratch = Scratch::new("renewal");
    let path = scratch.path("lb1");
    let mut one = Identity::found(&path, "lb1", address(11)).expect("founded");
    assert!(refusal(one.finish_rotation()).contains("no renewal has begun"));
    one.begin_rotation().expect("begun");
    let next = one.next.clone().expect("a new one");
    let mut again = Identity::load(&path).expect("loaded");
    again.begin_rotation().expect("begun");
    assert_eq!(again.next.as_ref(), Some(&next));
    assert_eq!(again.card().certificates.len(), 2);
    again.finish_rotation().expect("finished");
    let after = Identity::load(&path).expect("loaded");
    assert_eq!((after.certificate, after.next), (next, None));
}

#[test]
fn certificates_are_good_for_two_years_and_not_for_ever() {
    let (_, certificate) = make("lb1").expect("made");
    let certificate = parse_certificate(&certificate).expect("a certificate");
    let left = expiry(&certificate)
        .expect("an end")
        .duration_since(SystemTime::now())
        .expect("in the future");
    let days = left.as_secs().div_ceil(86_400);
    assert_eq!(days, 730);
    assert_eq!(
        parse_certificate(&pem(&certificate)).expect("the same"),
        certificate
    );
}

#[test]
fn a_seed_is_32_hexadecimal_digits() {
    assert_eq!(
        parse_seed("00000000000000010000000000000002\n").expect("a seed"),
        [1, 2]
    );
    for bad in [
        "",
        "+0000000000000010000000000000002",
        "00",
        "0000000000000001000000000000000g",
    ] {
        assert!(
            refusal(parse_seed(bad)).contains("32 hexadecimal digits"),
            "{bad}"
        );
    }
    assert!(refusal(parse_seed(&"0".repeat(32))).contains("zeros"));
}
