//! The machine driven by hand, then by random histories against the rules read off the history itself.

use proptest::prelude::*;

use super::*;

const PASS: Verdict = Verdict::Passed;
const FAIL: Verdict = Verdict::Failed(Contact::Answered);
const SILENT: Verdict = Verdict::Failed(Contact::Silent);

/// Feeds results a second apart, from second 0 on, and lists the transitions with their seconds.
fn run(initial: State, verdicts: &[Verdict]) -> Vec<(u64, Transition)> {
    let mut machine = Machine::new(Timing::default(), initial);
    (0..)
        .zip(verdicts)
        .filter_map(|(second, verdict)| Some((second, machine.on(Duration::from_secs(second), *verdict)?)))
        .collect()
}

#[test]
fn a_new_target_is_up_from_its_first_pass() {
    assert_eq!(run(State::Unknown, &[PASS, PASS, PASS]), [(0, Transition::Up)]);
    assert_eq!(run(State::Unknown, &[FAIL, FAIL, PASS]), [(2, Transition::Up)]);
}

#[test]
fn a_new_target_that_fails_is_down_after_fall_failures() {
    assert_eq!(
        run(State::Unknown, &[FAIL, FAIL, FAIL, FAIL]),
        [(2, Transition::SoftDown)]
    );
}

#[test]
fn failures_count_consecutively_not_together() {
    assert_eq!(
        run(State::Up, &[FAIL, FAIL, PASS, FAIL, FAIL, PASS, FAIL, FAIL]),
        []
    );
    assert_eq!(
        run(State::Up, &[FAIL, FAIL, PASS, FAIL, FAIL, FAIL]),
        [(5, Transition::SoftDown)]
    );
}

#[test]
fn passes_count_consecutively_not_together() {
    assert_eq!(run(State::SoftDown, &[PASS, FAIL, PASS, FAIL, PASS]), []);
    assert_eq!(
        run(State::SoftDown, &[PASS, FAIL, PASS, PASS]),
        [(3, Transition::Recovered)]
    );
}

#[test]
fn ten_seconds_of_silence_are_hard_down() {
    let expected = [(2, Transition::SoftDown), (10, Transition::HardDown)];
    assert_eq!(run(State::Up, &[SILENT; 12]), expected);
}

#[test]
fn one_answer_starts_the_silence_anew() {
    let mut verdicts = [SILENT; 20];
    verdicts[9] = FAIL;
    assert_eq!(run(State::Up, &verdicts), [(2, Transition::SoftDown)]);
    let verdicts = [&verdicts[..], &[SILENT]].concat();
    assert_eq!(
        run(State::Up, &verdicts),
        [(2, Transition::SoftDown), (20, Transition::HardDown)]
    );
}

#[test]
fn a_target_that_refuses_is_never_hard_down() {
    assert_eq!(run(State::Up, &[FAIL; 1_000]), [(2, Transition::SoftDown)]);
}

#[test]
fn a_pause_of_the_daemon_is_not_silence() {
    let mut machine = Machine::new(Timing::default(), State::SoftDown);
    assert_eq!(machine.on(Duration::from_secs(0), SILENT), None);
    assert_eq!(machine.on(Duration::from_secs(3_600), SILENT), None);
    assert_eq!(
        machine.on(Duration::from_secs(3_601), SILENT),
        Some(Transition::HardDown)
    );
}

#[test]
fn a_hard_down_host_that_answers_without_passing_is_soft_down() {
    assert_eq!(
        run(State::HardDown, &[FAIL, SILENT, FAIL, FAIL]),
        [(3, Transition::SoftDown)]
    );
    assert_eq!(run(State::HardDown, &[PASS, PASS]), [(1, Transition::Recovered)]);
}

#[test]
fn a_restored_state_is_kept_until_the_results_change_it() {
    for (state, verdict) in [
        (State::Up, PASS),
        (State::SoftDown, FAIL),
        (State::HardDown, SILENT),
    ] {
        assert_eq!(run(state, &[verdict; 30]), [], "{state:?}");
    }
}

#[test]
fn delays_follow_the_state_and_its_doubt() {
    let second = Duration::from_secs(1);
    let delay = |initial, verdicts: &[Verdict]| {
        let mut machine = Machine::new(Timing::default(), initial);
        for verdict in verdicts {
            machine.on(second, *verdict);
        }
        machine.delay(second, 0.0).as_millis()
    };
    assert_eq!(delay(State::Unknown, &[]), 500);
    assert_eq!(delay(State::Unknown, &[PASS]), 2_000);
    assert_eq!(delay(State::Up, &[PASS]), 2_000);
    assert_eq!(delay(State::Up, &[FAIL]), 500);
    assert_eq!(delay(State::Up, &[FAIL, FAIL, FAIL]), 5_000);
    assert_eq!(delay(State::SoftDown, &[PASS]), 500);
    assert_eq!(delay(State::HardDown, &[SILENT]), 5_000);
    assert_eq!(delay(State::HardDown, &[FAIL]), 500);
}

#[test]
fn a_silent_target_is_checked_when_it_may_be_hard_down() {
    let mut machine = Machine::new(Timing::default(), State::SoftDown);
    machine.on(Duration::from_secs(1), SILENT);
    let delay = |second| machine.delay(Duration::from_secs(second), 0.0);
    assert_eq!(delay(1), Duration::from_secs(5), "no later than down_interval");
    assert_eq!(delay(8), Duration::from_secs(3), "at the tenth second of silence");
    assert_eq!(
        delay(11),
        Duration::from_millis(500),
        "never faster than in doubt"
    );
}

#[test]
fn jitter_is_ten_percent_at_most() {
    let machine = Machine::new(Timing::default(), State::Up);
    let delay = |jitter| machine.delay(Duration::ZERO, jitter).as_millis();
    assert_eq!((delay(-1.0), delay(0.0), delay(1.0)), (1_800, 2_000, 2_200));
    assert_eq!((delay(-9.0), delay(9.0), delay(f64::NAN)), (1_800, 2_200, 2_000));
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(PASS), Just(FAIL), Just(SILENT)]
}

/// Runs of equal results, so that long ones are not rare, with the milliseconds before each.
fn history() -> impl Strategy<Value = Vec<(u64, Verdict)>> {
    let run = (verdict(), proptest::collection::vec(1_u64..8_000, 1..8));
    proptest::collection::vec(run, 1..40).prop_map(|runs| {
        runs.into_iter()
            .flat_map(|(verdict, gaps)| gaps.into_iter().map(move |gap| (gap, verdict)))
            .collect()
    })
}

/// How many of the last results satisfy the predicate without a break.
fn trailing(history: &[(Duration, Verdict)], is: impl Fn(Verdict) -> bool) -> usize {
    history
        .iter()
        .rev()
        .take_while(|(_, verdict)| is(*verdict))
        .count()
}

proptest! {
    #[test]
    fn every_transition_has_its_run_and_every_run_its_transition(
        initial in prop_oneof![
            Just(State::Unknown), Just(State::Up), Just(State::SoftDown), Just(State::HardDown)
        ],
        fall in 1_u32..5,
        rise in 1_u32..5,
        steps in history(),
    ) {
        let timing = Timing { fall, rise, ..Timing::default() };
        let mut machine = Machine::new(timing, initial);
        let (mut now, mut seen) = (Duration::ZERO, Vec::new());
        for (gap, verdict) in steps {
            now += Duration::from_millis(gap);
            seen.push((now, verdict));
            let before = machine.state();
            let transition = machine.on(now, verdict);
            let after = machine.state();

            let passes = trailing(&seen, |verdict| verdict == PASS);
            let failures = trailing(&seen, |verdict| verdict != PASS);
            let answers = trailing(&seen, |verdict| verdict != SILENT);
            let silent = trailing(&seen, |verdict| verdict == SILENT);
            let lasted = seen.get(seen.len() - silent).map_or(Duration::ZERO, |(first, _)| now - *first);
            let (fell, rose) = (failures >= fall as usize, passes >= rise as usize);
            let hard = silent >= fall as usize && lasted >= timing.hard_after;

            match transition {
                None => prop_assert_eq!(before, after),
                Some(Transition::Up) => {
                    prop_assert!(before == State::Unknown && after == State::Up && passes > 0);
                }
                Some(Transition::Recovered) => {
                    prop_assert!(matches!(before, State::SoftDown | State::HardDown));
                    prop_assert!(after == State::Up && rose);
                }
                Some(Transition::SoftDown) => {
                    prop_assert_eq!(after, State::SoftDown);
                    let due = if before == State::HardDown { answers >= rise as usize } else { fell };
                    prop_assert!(due, "from {:?}", before);
                }
                Some(Transition::HardDown) => {
                    prop_assert_eq!(after, State::HardDown);
                    prop_assert!(hard, "{} silent results over {:?}", silent, lasted);
                }
            }
            prop_assert!(!rose || after == State::Up, "{} passes and {:?}", passes, after);
            prop_assert!(!fell || matches!(after, State::SoftDown | State::HardDown));
            prop_assert!(!hard || after == State::HardDown);
        }
    }
}
