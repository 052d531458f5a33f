//! The machine driven by hand, each transition under the name of its place in RFC 9568; two and three of them on a
//! made segment, through years.

use std::net::Ipv4Addr;

use super::*;

mod segment;

const TENTH: u16 = 10;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn cs(count: u16) -> Interval {
    Interval::centiseconds(count).unwrap()
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn parameters(priority: u8) -> Parameters {
    Parameters {
        priority,
        interval: cs(TENTH),
        preempt: true,
        preempt_delay: Duration::ZERO,
        ready: true,
        address: address(11),
    }
}

fn heard(priority: u8) -> Event {
    Event::Advertisement {
        priority,
        source: address(12),
        interval: cs(TENTH),
    }
}

/// A router that has been Backup since second 0.
fn backup(parameters: Parameters) -> Machine {
    let mut machine = Machine::new(parameters);
    assert_eq!(machine.on(Event::Startup, Duration::ZERO), []);
    assert_eq!(machine.state(), State::Backup);
    machine
}

/// A router that became Active, its next advertisement is due at second 1.1.
fn active(parameters: Parameters) -> Machine {
    let mut machine = backup(parameters);
    let actions = machine.on(Event::Timer, seconds(1.0));
    assert_eq!(actions, [Action::Advertise, Action::Announce]);
    assert_eq!(machine.state(), State::Active);
    machine
}

#[test]
fn section_6_1_skew_time_and_active_down_interval() {
    assert_eq!(skew(cs(100), 255), seconds(1.0 / 256.0));
    assert_eq!(skew(cs(100), 128), seconds(0.5));
    assert_eq!(active_down(cs(100), 128), seconds(3.5));
    assert_eq!(active_down(cs(1), 192), seconds(0.0325));
}

#[test]
fn a_lease_ends_before_the_most_eager_backup_takes_over() {
    for interval in [1, 2, 10, 100, 4_000] {
        let (lease, eager) = (lease(cs(interval)), active_down(cs(interval), 254));
        assert!(lease < eager, "{interval} cs");
        assert!(
            lease > 2 * cs(interval).duration(),
            "{interval} cs: an advertisement may be late"
        );
    }
}

#[test]
fn section_6_4_1_startup_waits_as_backup_with_the_own_interval() {
    let machine = backup(parameters(200));
    assert_eq!(machine.deadline(), Some(active_down(cs(TENTH), 200)));
    assert_eq!(machine.active(), None);
}

#[test]
fn a_router_that_resumes_is_active_with_an_advertisement_at_once() {
    let mut machine = Machine::new(parameters(100));
    let actions = machine.on(Event::Resume, Duration::ZERO);
    assert_eq!(actions, [Action::Advertise, Action::Announce]);
    assert_eq!(machine.state(), State::Active);
    assert_eq!(machine.active(), Some(address(11)));
}

#[test]
fn section_6_4_1_initialize_ignores_everything_but_startup() {
    let mut machine = Machine::new(parameters(200));
    for event in [Event::Timer, Event::Shutdown, Event::Resign, heard(0), heard(100)] {
        assert_eq!(machine.on(event, seconds(1.0)), [], "{event:?}");
        assert_eq!((machine.state(), machine.deadline()), (State::Initialize, None));
    }
}

#[test]
fn section_6_4_2_shutdown_says_nothing() {
    let mut machine = backup(parameters(200));
    assert_eq!(machine.on(Event::Shutdown, seconds(0.1)), []);
    assert_eq!(machine.state(), State::Initialize);
}

#[test]
fn section_6_4_2_active_down_timer_makes_it_active() {
    let mut machine = backup(parameters(200));
    let due = machine.deadline().unwrap();
    assert_eq!(machine.on(Event::Timer, due - Duration::from_nanos(1)), []);
    assert_eq!(machine.state(), State::Backup);
    assert_eq!(
        machine.on(Event::Timer, due),
        [Action::Advertise, Action::Announce]
    );
    assert_eq!(machine.deadline(), Some(due + seconds(0.1)));
}

#[test]
fn section_6_4_2_priority_0_sets_the_timer_to_skew_time() {
    let mut machine = backup(parameters(192));
    machine.on(heard(200), seconds(1.0));
    assert_eq!(machine.on(heard(0), seconds(1.05)), []);
    assert_eq!(machine.deadline(), Some(seconds(1.05) + skew(cs(TENTH), 192)));
    assert_eq!(machine.active(), None);
}

#[test]
fn section_6_4_2_a_higher_or_equal_router_is_waited_for_by_its_interval() {
    for priority in [200, 201, 254, 255] {
        let mut machine = backup(parameters(200));
        let event = Event::Advertisement {
            priority,
            source: address(12),
            interval: cs(100),
        };
        assert_eq!(machine.on(event, seconds(0.2)), []);
        assert_eq!(machine.deadline(), Some(seconds(0.2) + active_down(cs(100), 200)));
        assert_eq!(machine.active(), Some(address(12)));
    }
}

#[test]
fn section_6_4_2_a_lower_router_is_preempted() {
    let mut machine = backup(parameters(200));
    let due = machine.deadline();
    assert_eq!(machine.on(heard(199), seconds(0.2)), []);
    assert_eq!(machine.deadline(), due, "discarded");
    assert_eq!(
        machine.on(Event::Timer, due.unwrap()),
        [Action::Advertise, Action::Announce]
    );
}

#[test]
fn section_6_4_2_a_lower_router_is_waited_for_without_preempt_mode() {
    let mut machine = backup(Parameters {
        preempt: false,
        ..parameters(200)
    });
    machine.on(heard(1), seconds(0.2));
    assert_eq!(
        machine.deadline(),
        Some(seconds(0.2) + active_down(cs(TENTH), 200))
    );
}

#[test]
fn a_lower_router_is_heard_for_the_preempt_delay_before_it_is_preempted() {
    let mut machine = backup(Parameters {
        preempt_delay: seconds(5.0),
        ..parameters(200)
    });
    let mut now = seconds(0.1);
    while machine.state() == State::Backup {
        machine.on(heard(100), now);
        machine.on(Event::Timer, now);
        now += seconds(0.1);
        assert!(now < seconds(10.0), "never preempted");
    }
    // The delay from the first one heard, then the timer as it was set by the last one that counted.
    let expected = 5.0 + 0.3;
    assert!((now.as_secs_f64() - expected).abs() < 0.3, "preempted at {now:?}");
}

#[test]
fn the_preempt_delay_begins_anew_after_an_equal_router() {
    let mut machine = backup(Parameters {
        preempt_delay: seconds(5.0),
        ..parameters(200)
    });
    machine.on(heard(100), seconds(0.1));
    machine.on(heard(200), seconds(4.0));
    machine.on(heard(100), seconds(5.2));
    assert_eq!(
        machine.deadline(),
        Some(seconds(5.2) + active_down(cs(TENTH), 200)),
        "still patient"
    );
}

#[test]
fn a_router_that_is_not_ready_stays_behind_a_living_lower_one() {
    let mut machine = backup(Parameters {
        ready: false,
        ..parameters(200)
    });
    for tenth in 1..100 {
        let now = seconds(f64::from(tenth) / 10.0);
        assert_eq!(machine.on(heard(1), now), []);
        assert_eq!(machine.on(Event::Timer, now), []);
    }
    assert_eq!(machine.state(), State::Backup);
    machine.on(Event::Changed(parameters(200)), seconds(10.0));
    machine.on(heard(1), seconds(10.0));
    let due = machine.deadline().unwrap();
    machine.on(heard(1), seconds(10.1));
    assert_eq!(
        machine.deadline(),
        Some(due),
        "ready: the lower one does not count"
    );
}

#[test]
fn a_router_that_is_not_ready_takes_over_where_nobody_is_heard() {
    let mut machine = backup(Parameters {
        ready: false,
        ..parameters(200)
    });
    machine.on(heard(100), seconds(0.1));
    let due = seconds(0.1) + active_down(cs(TENTH), 200);
    assert_eq!(
        machine.on(Event::Timer, due),
        [Action::Advertise, Action::Announce]
    );
}

#[test]
fn a_router_that_is_not_ready_leaves_the_place_of_one_that_gives_up_to_others_first() {
    let mut machine = backup(Parameters {
        ready: false,
        ..parameters(254)
    });
    machine.on(heard(0), seconds(0.1));
    let late = machine.deadline().unwrap();
    assert!(
        late > seconds(0.1) + skew(cs(TENTH), 1),
        "the least of the ready ones is sooner"
    );
    assert!(
        late < seconds(0.1) + lease(cs(TENTH)),
        "the one that gives up still answers"
    );
}

#[test]
fn section_6_4_3_shutdown_gives_up_and_answers_until_the_successor_is_heard() {
    let mut machine = active(parameters(200));
    assert_eq!(machine.on(Event::Shutdown, seconds(1.05)), [Action::GiveUp]);
    assert_eq!((machine.state(), machine.deadline()), (State::Initialize, None));
    assert!(machine.lingers());
    assert_eq!(machine.on(heard(0), seconds(1.06)), [], "no successor");
    assert_eq!(machine.on(heard(100), seconds(1.1)), [Action::StopAnswering]);
    assert_eq!(machine.on(heard(100), seconds(1.2)), []);
}

#[test]
fn section_6_4_3_adver_timer_advertises() {
    let mut machine = active(parameters(200));
    for tenth in 11..1_000 {
        let now = seconds(f64::from(tenth) / 10.0);
        assert_eq!(machine.on(Event::Timer, now), [Action::Advertise]);
        assert_eq!(machine.on(Event::Timer, now), [], "not before the next is due");
    }
}

#[test]
fn section_6_4_3_priority_0_is_answered_at_once() {
    let mut machine = active(parameters(200));
    assert_eq!(machine.on(heard(0), seconds(1.05)), [Action::Advertise]);
    assert_eq!(machine.deadline(), Some(seconds(1.15)));
}

#[test]
fn section_6_4_3_a_higher_router_takes_the_addresses_at_once() {
    let mut machine = active(parameters(200));
    let event = Event::Advertisement {
        priority: 201,
        source: address(1),
        interval: cs(100),
    };
    assert_eq!(machine.on(event, seconds(1.05)), [Action::StopAnswering]);
    assert_eq!(machine.state(), State::Backup);
    assert_eq!(
        machine.deadline(),
        Some(seconds(1.05) + active_down(cs(100), 200))
    );
    assert_eq!(machine.active(), Some(address(1)));
}

#[test]
fn section_6_4_3_of_equal_routers_the_higher_address_stays() {
    let equal = |source| Event::Advertisement {
        priority: 200,
        source,
        interval: cs(TENTH),
    };
    let mut machine = active(parameters(200));
    assert_eq!(
        machine.on(equal(address(10)), seconds(1.05)),
        [Action::Advertise, Action::Announce]
    );
    assert_eq!(
        machine.on(equal(address(12)), seconds(1.06)),
        [Action::StopAnswering]
    );
    // As numbers, not as text.
    let six = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut machine = active(Parameters {
        address: six("fe80::2"),
        ..parameters(200)
    });
    assert_eq!(
        machine.on(equal(six("fe80::1f")), seconds(1.05)),
        [Action::StopAnswering]
    );
}

#[test]
fn section_6_4_3_a_lower_router_is_told_at_once_and_the_addresses_are_announced_again() {
    let mut machine = active(parameters(200));
    assert_eq!(
        machine.on(heard(199), seconds(1.05)),
        [Action::Advertise, Action::Announce]
    );
    assert_eq!(machine.state(), State::Active);
}

#[test]
fn one_that_resigns_is_backup_and_answers_until_the_successor_is_heard() {
    let mut machine = active(parameters(200));
    let held = Parameters {
        priority: 1,
        ready: false,
        ..parameters(200)
    };
    assert_eq!(machine.on(Event::Resign, seconds(1.05)), [Action::GiveUp]);
    assert_eq!(machine.on(Event::Changed(held), seconds(1.05)), []);
    assert_eq!(machine.state(), State::Backup);
    assert_eq!(machine.on(heard(100), seconds(1.1)), [Action::StopAnswering]);
    assert_eq!(machine.on(heard(100), seconds(1.2)), []);
    assert_eq!(
        machine.on(Event::Timer, seconds(1.2) + active_down(cs(TENTH), 1)),
        [Action::Advertise, Action::Announce],
        "the successor has died"
    );
}

#[test]
fn one_that_fails_stops_answering_and_says_nothing() {
    let mut machine = active(parameters(200));
    assert_eq!(machine.on(Event::Fail, seconds(1.05)), [Action::StopAnswering]);
    assert_eq!(machine.state(), State::Initialize);
    let mut machine = active(parameters(200));
    machine.on(Event::Resign, seconds(1.05));
    assert_eq!(machine.on(Event::Fail, seconds(1.06)), [Action::StopAnswering]);
}

#[test]
fn an_active_routers_change_is_advertised_at_once() {
    let mut machine = active(parameters(200));
    let slower = Parameters {
        interval: cs(100),
        ..parameters(150)
    };
    assert_eq!(
        machine.on(Event::Changed(slower), seconds(1.05)),
        [Action::Advertise]
    );
    assert_eq!(machine.deadline(), Some(seconds(2.05)));
    assert_eq!(machine.on(Event::Changed(slower), seconds(1.06)), [], "no change");
    assert_eq!(machine.on(heard(199), seconds(1.1)), [Action::StopAnswering]);
}

#[test]
fn a_backups_skew_follows_its_priority() {
    let mut machine = backup(parameters(200));
    machine.on(heard(250), seconds(1.0));
    machine.on(Event::Changed(parameters(50)), seconds(1.01));
    assert_eq!(
        machine.deadline(),
        Some(seconds(1.0) + active_down(cs(TENTH), 50))
    );
}
