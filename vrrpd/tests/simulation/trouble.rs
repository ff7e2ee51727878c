//! What is done to a world: anything, then nothing for as long as it may need.

use std::time::Duration;

use vrrpd::event::{Input, Standing, Yield};

use super::world::{GOOD, Lan, World};

impl World {
    /// A few things go wrong, at random times of some adverts each.
    pub(crate) fn trouble(&mut self) {
        for _ in 0..self.random.usize(1..8) {
            self.disturb();
            let most = u64::try_from(self.setup.interval().as_micros()).unwrap() * 5;
            let time = Duration::from_micros(self.random.u64(1..most));
            self.run(time, |_| {});
        }
    }

    fn disturb(&mut self) {
        let node = self.random.usize(0..self.nodes.len());
        let lan = self.random.usize(0..self.lans.len());
        let kind = self.random.u8(0..14);
        self.tell(|| format!("trouble {kind} at node {node} lan {lan}"));
        match kind {
            0 => self.lans[lan] = self.bad(),
            1 => self.split(lan),
            2 => self.freeze(node),
            3 if self.nodes[node].alive => self.kill(node),
            4 if self.is_awake(node) => self.stop(node),
            3 | 4 if !self.nodes[node].alive => self.restart(node),
            5 | 6 if self.is_awake(node) => {
                let up = self.random.bool();
                self.set_link(node, lan, up);
            }
            7 | 8 if self.is_awake(node) => self.judge(node, lan),
            9 => {
                self.freeze(node);
                let by = Duration::from_millis(self.random.u64(0..5000));
                self.run(self.setup.interval() * 2, |_| {});
                self.jump(node, by);
            }
            11 => {
                // Several processes die at once, and leave their addresses.
                for node in 0..self.nodes.len() {
                    if self.random.bool() {
                        self.kill(node);
                    }
                }
            }
            10 if self.is_awake(node) => {
                // A process that is killed and started again at once.
                self.kill(node);
                self.restart(node);
            }
            12 => self.second = self.bad(),
            13 => {
                for node in &mut self.nodes {
                    node.side = self.random.u8(0..2);
                }
            }
            _ => {}
        }
    }

    fn bad(&mut self) -> Lan {
        Lan {
            loss: self.random.f64() * 0.5,
            duplication: self.random.f64(),
            max_delay: self.setup.interval() * self.random.u32(0..150) / 100,
        }
    }

    fn split(&mut self, lan: usize) {
        for node in 0..self.nodes.len() {
            self.nodes[node].members[lan].side = self.random.u8(0..2);
        }
    }

    fn freeze(&mut self, node: usize) {
        let most = u64::try_from(self.setup.down().as_micros()).unwrap() * 2;
        let time = Duration::from_micros(self.random.u64(1..most));
        self.sleep(node, time);
    }

    fn judge(&mut self, node: usize, lan: usize) {
        let yields = match self.random.u8(0..4) {
            0 => Some(Yield::TableMissing),
            1 => Some(Yield::Drained),
            _ => None,
        };
        let priority = self.random.u8(1..=254);
        self.feed(node, lan, Input::Standing(Standing { priority, yields }));
    }

    /// Networks that lose nothing, the second one whole, every process awake and running; parts, links and verdicts stay as they are. After the time that the
    /// protocol allows, everything must be in order and stay so.
    pub(crate) fn calm(&mut self) {
        self.tell(|| "calm".to_owned());
        self.lans.fill(GOOD);
        self.second = GOOD;
        for node in &mut self.nodes {
            node.side = 0;
        }
        // Whoever sleeps wakes up, and what is under way arrives.
        self.run(self.setup.down() * 5, |_| {});
        for node in 0..self.nodes.len() {
            if !self.nodes[node].alive {
                self.restart(node);
            }
        }
        let allowed = self.allowed();
        self.run(allowed, |_| {});
        let before = self.transitions;
        self.in_order();
        self.run(self.setup.down() * 3, |world| {
            if world.transitions != before {
                world.fail("it flaps: nothing has happened for long");
            }
            world.one_holder();
        });
        self.in_order();
    }

    /// Two elections, with the kernel's time. A group may look at a tie for a while first, and a takeover lets others be heard on further
    /// networks, where the preempt delay begins then.
    fn allowed(&self) -> Duration {
        let elections = if self.setup.grouped { 5 } else { 3 };
        let delays = u32::try_from(self.lans.len()).unwrap();
        self.setup.down() * elections
            + self.setup.preempt_delay().unwrap_or_default() * delays
            + self.setup.config.startup_delay
            + Duration::from_millis(20)
    }
}
