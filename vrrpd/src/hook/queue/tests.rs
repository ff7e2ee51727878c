use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

fn queue(occasions: &[Occasion]) -> Queue {
    let programs = occasions
        .iter()
        .map(|occasion| (*occasion, vec![format!("/{}", occasion.word())]));
    Queue::new(
        About::Group("way".to_owned()),
        Programs {
            of: programs.collect(),
            timeout: TIMEOUT,
            user: "nobody".to_owned(),
        },
    )
}

/// The actions in short; a program that is started is on its way at once.
fn actions(queue: &mut Queue, now: Moment) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(action) = queue.poll_action() {
        all.push(match action {
            Action::Start(run) => {
                queue.handle_started(now);
                run.command.join(" ")
            }
            Action::Terminate => "TERM".to_owned(),
            Action::Kill => "KILL".to_owned(),
            Action::Tell(last) => last.outcome,
        });
    }
    all
}

const STATES: [Occasion; 4] = [
    Occasion::Master,
    Occasion::Backup,
    Occasion::Fault,
    Occasion::Stop,
];

#[test]
fn what_runs_after_a_program_that_was_busy_while_these_words_came() {
    use Word::{Backup, Fault, LowerMaster, Master, Stop};
    let all = [&STATES[..], &[Occasion::Any, Occasion::LowerMaster]].concat();
    let line = |word: Word| {
        let program = word.occasion().word();
        format!("/{program} GROUP way {} 250", word.text())
    };
    let any = |word: Word| format!("/any GROUP way {} 250", word.text());
    // (which programs there are, what came meanwhile, what runs then, how many states were left out)
    type Row<'a> = (&'a [Occasion], &'a [Word], Vec<String>, u64);
    let rows: [Row<'_>; 9] = [
        (&STATES, &[], vec![], 0),
        (&STATES, &[Backup], vec![line(Backup)], 0),
        (&STATES, &[Backup, Master, Fault, Stop], vec![line(Stop)], 3),
        (&all, &[Backup, Fault], vec![line(Fault), any(Fault)], 1),
        // Nothing runs for a state without a program, but the one before it is over all the same.
        (&[Occasion::Master], &[Backup, Master, Backup], vec![], 1),
        (&[Occasion::Any], &[Backup, Stop], vec![any(Stop)], 1),
        (
            &all,
            &[LowerMaster, LowerMaster],
            vec![line(LowerMaster)],
            1,
        ),
        (
            &all,
            &[LowerMaster, Master],
            vec![line(Master), any(Master), line(LowerMaster)],
            0,
        ),
        (
            &all,
            &[LowerMaster, Backup],
            vec![line(Backup), any(Backup)],
            1,
        ),
    ];
    for (programs, words, expected, coalesced) in rows {
        let mut queue = queue(programs);
        let begin = match programs {
            [Occasion::Any] => any(Master),
            _ => line(Master),
        };
        queue.handle_word(Master, 250);
        assert_eq!(actions(&mut queue, at(0)), [begin]);
        if programs.len() > 4 {
            queue.handle_ended(true, "exit 0".to_owned(), at(0));
            assert_eq!(
                actions(&mut queue, at(0)),
                ["exit 0".to_owned(), any(Master)]
            );
        }
        for word in words {
            queue.handle_word(*word, 250);
            assert_eq!(actions(&mut queue, at(1)), [""; 0], "one runs");
        }
        let mut ran = Vec::new();
        while !queue.is_idle() {
            queue.handle_ended(true, String::new(), at(2));
            ran.extend(actions(&mut queue, at(2)));
        }
        ran.retain(|line| !line.is_empty());
        assert_eq!(ran, expected, "{words:?}");
        assert_eq!(queue.tally().coalesced, coalesced, "{words:?}");
    }
}

#[test]
fn a_program_that_hangs_is_asked_and_then_killed_and_the_next_one_runs() {
    let mut queue = queue(&STATES);
    queue.handle_word(Word::Master, 250);
    assert_eq!(actions(&mut queue, at(5)), ["/master GROUP way MASTER 250"]);
    queue.handle_word(Word::Stop, 250);
    queue.handle_timeout(at(14));
    assert_eq!(actions(&mut queue, at(14)), [""; 0]);
    assert_eq!(queue.poll_timeout().unwrap().0, at(15));
    queue.handle_timeout(at(15));
    assert_eq!(actions(&mut queue, at(15)), ["TERM"]);
    assert_eq!(queue.poll_timeout().unwrap().0, at(16));
    queue.handle_timeout(at(16));
    let expected = [
        "KILL",
        "not in time (10s): killed",
        "/stop GROUP way STOP 250",
    ];
    assert_eq!(actions(&mut queue, at(16)), expected);
    let last = queue.tally().last.clone().unwrap();
    assert_eq!((last.success, last.duration_ms), (false, 11_000));
    // One that ends when it is asked is late as well.
    queue.handle_timeout(at(26));
    assert_eq!(actions(&mut queue, at(26)), ["TERM"]);
    queue.handle_ended(true, "exit 0".to_owned(), at(26));
    assert_eq!(actions(&mut queue, at(26)), ["not in time (10s): exit 0"]);
    assert!(queue.is_over());
    let tally = queue.tally();
    assert_eq!((tally.runs, tally.failures, tally.timeouts), (2, 2, 2));
}

#[test]
fn patience_is_bounded_by_what_runs_and_waits() {
    let mut queue = queue(&STATES);
    assert_eq!(queue.patience(), Duration::ZERO);
    queue.handle_word(Word::Master, 250);
    assert_eq!(queue.patience(), TIMEOUT + GRACE);
    queue.handle_word(Word::Stop, 250);
    assert_eq!(queue.patience(), (TIMEOUT + GRACE) * 3);
}

#[test]
fn other_programs_hold_from_the_next_run_on() {
    let mut queue = queue(&[Occasion::Master]);
    queue.handle_word(Word::Master, 250);
    actions(&mut queue, at(0));
    queue.set_programs(Programs::default());
    queue.handle_word(Word::Stop, 250);
    queue.handle_ended(false, "exit 3".to_owned(), at(1));
    assert_eq!(actions(&mut queue, at(1)), ["exit 3"]);
    assert!(queue.is_over());
    assert_eq!(queue.tally().failures, 1);
}
