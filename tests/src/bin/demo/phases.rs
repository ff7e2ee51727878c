//! The demo's phases: what is taken down, what is promised, what was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::client::unevenness;
use tests::topology::{APPS, DIRECTORS, EDGES, other_director};
use tests::{Cause, Kind, Load, Picture, Report, in_uml, ipvs, wait};

use crate::screen::Screen;

const SERVICE: &str = "TCP 10.0.0.100:80";
/// fall × interval + timeout of the checks in demo.toml, and their jitter.
const EDGE_DETECTION: Duration = Duration::from_millis(1500);
/// Three adverts and the skew take less than 350 ms; 100 ms are for looking, by a few processes.
const TAKEOVER: Duration = Duration::from_millis(450);

/// The running demo.
pub(crate) struct Demo {
    /// Stopped before the network below it is removed.
    load: Load,
    pub(crate) picture: Picture,
    pub(crate) screen: Screen,
    kept: usize,
    broken: usize,
}

impl Demo {
    pub(crate) fn new(picture: Picture, screen: Screen) -> Demo {
        let load = picture.load(200, 1);
        Demo {
            load,
            picture,
            screen,
            kept: 0,
            broken: 0,
        }
    }

    pub(crate) fn all_phases(&mut self) {
        self.steady();
        self.application_server_dies();
        self.all_application_servers_die();
        self.edge_dies();
        self.local_proxy_dies();
        self.director_is_killed();
        self.director_loses_its_link();
    }

    /// Prints the end; whether every promise held.
    pub(crate) fn summary(&self, took: Duration) -> bool {
        self.screen
            .summary(self.kept, self.broken, &self.load.so_far(), took);
        self.broken == 0
    }

    fn promise(&mut self, held: bool, promise: &str) {
        *if held {
            &mut self.kept
        } else {
            &mut self.broken
        } += 1;
        self.screen.promise(held, promise);
    }

    /// A promise about time: decides on a real kernel only.
    fn promise_time(&mut self, took: Duration, limit: Duration, what: &str) {
        let text = format!(
            "{what} within {} ms: {} ms",
            limit.as_millis(),
            took.as_millis()
        );
        if in_uml() {
            println!(
                "    (a guest's time decides nothing) {what} after {} ms",
                took.as_millis()
            );
        } else {
            self.promise(took <= limit, &text);
        }
    }

    /// Waits for so many requests that begin from now on.
    fn requests(&self, count: usize) -> Report {
        let from = self.load.now();
        wait::until("requests go on", Duration::from_secs(60), || {
            self.since(from).requests() >= count
        });
        self.since(from)
    }

    fn since(&self, from: Duration) -> Report {
        self.load.so_far().begun_in(from, Duration::MAX)
    }

    /// The end of a phase: the row, and the promise about failures. In a window a part was away and nobody had noticed yet.
    fn close(
        &mut self,
        phase: &str,
        from: Duration,
        windows: &[(Duration, Duration)],
        causes: fn(&Cause) -> bool,
    ) {
        let report = self.since(from);
        let master = self.picture.masters().join("+");
        self.screen.row(phase, &report, &master);
        let unexcused = report.unexcused(windows);
        let text = "no request failed but those under way on the dead part until it was noticed";
        self.promise(unexcused.failed() == 0, text);
        for (record, cause) in unexcused.failures() {
            println!(
                "      {cause}: {:?} to {:?}, windows {windows:?}",
                record.begun, record.ended
            );
        }
        let strange = report
            .failures()
            .filter(|(_, cause)| !causes(cause))
            .count();
        if report.failed() > 0 {
            self.promise(
                strange == 0,
                "each failed in the way that this death explains",
            );
        }
    }

    /// Waits until `director` serves the VIP; the moment, and how long it took.
    fn moved_to(&self, director: &str, alone: bool) -> (Duration, Duration) {
        let what = format!("{director} serves the VIP");
        let took = wait::until(&what, Duration::from_secs(20), || {
            self.picture.serves(director) && (!alone || self.picture.serves_alone(director))
        });
        (self.load.now(), took)
    }

    fn steady(&mut self) {
        self.screen.step("steady load from 200 addresses");
        let from = self.load.now();
        self.requests(600);
        let report = self.since(from);
        let master = self.picture.master();
        self.screen.row("steady", &report, master);
        self.promise(report.failed() == 0, "no request failed");
        let (edges, apps) = (
            unevenness(&report.by_proxy(), EDGES.len()),
            unevenness(&report.by_app(), APPS.len()),
        );
        self.promise(
            edges <= 5.0,
            &format!("connections spread within 5 % ({edges:.1} %)"),
        );
        self.promise(
            apps <= 2.0,
            &format!("requests spread within 2 % ({apps:.1} %)"),
        );
        self.promise(master == "lb1", "the preferred director holds the VIP");
    }

    fn application_server_dies(&mut self) {
        self.screen.step("app2 dies");
        let from = self.load.now();
        self.picture.kill_app("app2");
        self.requests(200);
        self.screen.step("app2 comes back");
        self.picture.start_app("app2");
        let back = self.load.now();
        wait::until("app2 gets requests again", Duration::from_secs(30), || {
            self.since(back).by_app().contains_key("app2")
        });
        let report = self.since(from);
        let master = self.picture.masters().join("+");
        self.screen.row("app2 died, came back", &report, &master);
        self.promise(
            report.failed() == 0,
            "no request failed: those under way were sent elsewhere",
        );
    }

    fn all_application_servers_die(&mut self) {
        self.screen.step("all application servers die");
        let before = self.layers_below();
        let from = self.load.now();
        for app in APPS {
            self.picture.kill_app(app);
        }
        self.requests(150);
        let report = self.since(from);
        let after = self.layers_below();
        let master = self.picture.masters().join("+");
        self.screen.row("all apps dead", &report, &master);
        let pages = report
            .failures()
            .all(|(_, cause)| matches!(cause, Cause::Status(502..=504)));
        self.promise(
            pages && report.failed() > 0,
            "clients got edge's error page through the VIP",
        );
        self.promise(before.0 == after.0, "the IPVS tables did not change");
        self.promise(before.1 == after.1, "no virtual router moved");
        self.screen.step("the application servers come back");
        self.picture.start_apps();
        wait::until("good answers again", Duration::from_secs(30), || {
            let last = self.since(self.load.now().saturating_sub(Duration::from_secs(1)));
            last.requests() > 20 && last.failed() == 0
        });
        let report = self.requests(100);
        self.promise(report.failed() == 0, "no request failed after their return");
    }

    fn layers_below(&mut self) -> ([ipvs::Table; 2], [u64; 2]) {
        let tables = DIRECTORS.map(|director| ipvs::table(self.picture.node(director)));
        let moves = DIRECTORS.map(|director| {
            self.picture
                .daemon(director, Kind::Vrrpd)
                .metric("vrrp_transitions_total", "") as u64
        });
        (tables, moves)
    }

    fn edge1_weight(&self, director: &str) -> u32 {
        ipvs::weights(self.picture.node(director), SERVICE)
            .get("10.0.0.11:80")
            .copied()
            .unwrap_or_default()
    }

    fn edge_dies(&mut self) {
        self.screen.step("edge1 is killed");
        let from = self.load.now();
        let master = self.picture.master();
        self.picture.daemon("edge1", Kind::Edge).kill();
        let took = wait::until("edge1 is out", Duration::from_secs(15), || {
            self.edge1_weight(master) == 0
        });
        let noticed = self.load.now();
        self.requests(200);
        self.screen.step("edge1 comes back");
        self.restart("edge1", &[Kind::Edge]);
        wait::until("edge1 is in again", Duration::from_secs(15), || {
            self.edge1_weight(master) > 0
        });
        self.requests(200);
        self.close(
            "edge1 killed, came back",
            from,
            &[(from, noticed)],
            |cause| matches!(cause, Cause::Refused | Cause::Reset | Cause::Closed),
        );
        self.promise_time(took, EDGE_DETECTION, "edge1 was taken out");
    }

    fn local_proxy_dies(&mut self) {
        let master = self.picture.master();
        self.screen.step(&format!(
            "the local proxy on {master} is killed: its priority falls by 20"
        ));
        let from = self.load.now();
        self.picture.daemon(master, Kind::Edge).kill();
        let (noticed, _) = self.moved_to(other_director(master), true);
        self.requests(150);
        self.screen.step("the local proxy comes back");
        let back = self.load.now();
        self.restart(master, &[Kind::Edge]);
        let (settled, _) = self.moved_to(master, true);
        self.requests(150);
        let windows = [(from, noticed), (back, settled)];
        self.close("local proxy killed, back", from, &windows, cut_by_a_move);
    }

    fn director_is_killed(&mut self) {
        let master = self.picture.master();
        self.screen.step(&format!(
            "vrrpd and director on {master} are killed (SIGKILL)"
        ));
        let from = self.load.now();
        for kind in [Kind::Vrrpd, Kind::Director] {
            self.picture.daemon(master, kind).kill();
        }
        let (noticed, took) = self.moved_to(other_director(master), false);
        self.requests(200);
        self.screen.step(&format!("{master} comes back"));
        let back = self.load.now();
        self.restart(master, &[Kind::Director, Kind::Vrrpd]);
        let (settled, _) = self.moved_to(master, true);
        self.requests(200);
        let windows = [(from, noticed), (back, settled)];
        self.close("active director killed", from, &windows, cut_by_a_move);
        self.promise_time(took, TAKEOVER, "the VIP moved");
    }

    fn director_loses_its_link(&mut self) {
        let master = self.picture.master();
        self.screen
            .step(&format!("the cable of {master} is pulled"));
        let from = self.load.now();
        self.picture.lab.set_cable(master, "eth0", false);
        let (noticed, took) = self.moved_to(other_director(master), false);
        self.requests(200);
        self.screen.step("the cable is back");
        let back = self.load.now();
        self.picture.lab.set_cable(master, "eth0", true);
        let (settled, _) = self.moved_to(master, true);
        self.requests(200);
        let windows = [(from, noticed), (back, settled)];
        self.close("active director cut off", from, &windows, cut_by_a_move);
        self.promise_time(took, TAKEOVER, "the VIP moved");
        let spread: BTreeMap<String, usize> = self.requests(100).by_app();
        self.promise(
            spread.len() == APPS.len(),
            "all application servers take requests at the end",
        );
    }

    fn restart(&mut self, node: &str, kinds: &[Kind]) {
        for kind in kinds {
            let daemon = self.picture.daemon(node, *kind);
            daemon.spawn();
            daemon.wait_ready();
        }
    }
}

/// Without connection synchronisation the other director does not know a connection that it did not see begin, and resets it.
fn cut_by_a_move(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::ConnectTimeout
            | Cause::AnswerTimeout
            | Cause::Unreachable
            | Cause::Reset
            | Cause::Closed
    )
}
