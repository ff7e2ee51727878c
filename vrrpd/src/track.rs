//! SHELL: looks at what is tracked on the node itself: interfaces, addresses and routes in the kernel, files and processes (`node`).
//!
//! Links and addresses are told by the kernel as they change, and the end of a process by its descriptor; all else is read every second.
//! Nothing here decides: `standing` does.

mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conf::platform::{Local, Track};
use net::{Event, Net, Route, Watch};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::netlink::View;
use crate::plan::{Key, Wanted};
use crate::standing::{Reading, Readings};
use node::Node;

/// How often files, processes and routes are read.
const LOOK: Duration = Duration::from_secs(1);
/// Events that wait; what is more waits in the kernel.
const EVENTS: usize = 64;
/// The main routing table (RT_TABLE_MAIN).
const MAIN_TABLE: u32 = 254;

/// The tracker.
pub(crate) struct Tracker {
    net: Net,
    events: mpsc::Receiver<Result<Event, net::Error>>,
    view: View,
    routes: Option<Vec<Route>>,
    node: Node,
    routers: watch::Receiver<BTreeMap<Key, Wanted>>,
    /// Some process that was watched has ended.
    ended: Arc<Notify>,
    /// The last failure to ask the kernel.
    trouble: Option<String>,
}

impl Tracker {
    pub(crate) fn new(
        routers: watch::Receiver<BTreeMap<Key, Wanted>>,
    ) -> Result<Tracker, net::Error> {
        let ended = Arc::new(Notify::new());
        let (sender, events) = mpsc::channel(EVENTS);
        // The kernel answers one listing per connection at a time, so each has its own.
        tokio::spawn(follow(Net::connect()?, sender));
        Ok(Tracker {
            net: Net::connect()?,
            events,
            view: View::default(),
            routes: None,
            node: Node::new(ended.clone()),
            routers,
            ended,
            trouble: None,
        })
    }

    /// Tells what is read at first and whenever it has changed, until nobody wants virtual routers any more.
    pub(crate) async fn run(mut self, tell: impl Fn(Readings)) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Readings::new();
        let (mut of_node, mut look) = (Readings::new(), true);
        loop {
            let wanted = locals(&self.routers.borrow_and_update());
            // The kernel may have much to tell about links: files and processes are not read for it.
            if std::mem::take(&mut look) {
                of_node = self.node.read(&wanted).await;
            }
            let mut found = of_node.clone();
            found.extend(self.of_kernel(&wanted));
            if found != told {
                told.clone_from(&found);
                tell(found);
            }
            tokio::select! {
                changed = self.routers.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tick.reset_immediately();
                }
                event = self.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                () = self.ended.notified() => look = true,
                _ = tick.tick(), if !wanted.is_empty() => {
                    self.look(&wanted).await;
                    look = true;
                }
            }
        }
    }

    fn take(&mut self, event: Result<Event, net::Error>) {
        match event {
            Ok(event) => {
                self.trouble = None;
                self.view.take(event);
            }
            Err(error) => self.complain(&error),
        }
    }

    /// Asks for what the kernel does not tell by itself.
    async fn look(&mut self, wanted: &BTreeSet<Local>) {
        if !wanted
            .iter()
            .any(|local| matches!(local, Local::Route { .. }))
        {
            self.routes = None;
            return;
        }
        match self.net.routes().await {
            Ok(routes) => {
                self.routes = Some(routes);
                self.trouble = None;
            }
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &net::Error) {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(%error, "what is tracked cannot be read; what was read last holds");
            self.trouble = Some(text);
        }
    }

    /// What is known now; something that the kernel has not told yet is left out, unless it cannot be had.
    fn of_kernel(&self, wanted: &BTreeSet<Local>) -> Readings {
        let mut readings = Readings::new();
        let failed = self.trouble.is_some();
        for local in wanted {
            let good = match local {
                Local::Interface(name) if self.view.is_complete() => Some(self.view.is_up(name)),
                Local::Address(address) if self.view.is_complete() => Some(self.view.has(*address)),
                Local::Route {
                    destination,
                    prefix_len,
                } => self.routes.as_ref().map(|routes| {
                    routes.iter().any(|route| {
                        route.table == MAIN_TABLE
                            && route.destination == *destination
                            && route.prefix_len == *prefix_len
                    })
                }),
                Local::File(_) | Local::Process(_) => continue,
                Local::Interface(_) | Local::Address(_) => None,
            };
            let reading = match good {
                Some(true) => Some(Reading::Good),
                Some(false) => Some(Reading::Bad),
                None => failed.then_some(Reading::Unknown),
            };
            readings.extend(reading.map(|reading| (local.clone(), reading)));
        }
        readings
    }
}

/// Passes on what the kernel tells of links and addresses; after an error it subscribes anew.
async fn follow(net: Net, sender: mpsc::Sender<Result<Event, net::Error>>) {
    loop {
        let error = match Watch::open(net.clone()) {
            Err(error) => error,
            Ok(mut watch) => loop {
                match watch.next().await {
                    Ok(event) => {
                        if sender.send(Ok(event)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => break error,
                }
            },
        };
        if sender.send(Err(error)).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn locals(routers: &BTreeMap<Key, Wanted>) -> BTreeSet<Local> {
    let tracks = routers.values().flat_map(|wanted| &wanted.tracks);
    tracks.filter_map(Track::local).cloned().collect()
}
