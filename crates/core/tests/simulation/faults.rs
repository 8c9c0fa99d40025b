//! What goes wrong, drawn from the seed.

use std::time::Duration;

use mvllm_core::attempt::Failure;
use mvllm_core::snapshot::Admission;
use mvllm_core::time::Timestamp;

use super::servers::Ailment;
use super::world::{Event, TROUBLE, World};

/// Something that happens to the world from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mishap {
    /// A server falls ill with this, or gets well.
    Ails(usize, Option<Ailment>),
    /// All servers but one fall silent at once, as when the router's own network breaks.
    Blackout(Ailment),
    /// The router stands still.
    Sleeps(Duration),
    /// The operator gives an order.
    Ordered(Order),
    /// Whatever was wrong is put right.
    AllIsWell,
}

/// What an operator tells the router, which hears it when it is awake.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// A reload leaves this server out, or takes all in.
    Configured(Option<usize>),
    Admission(usize, Admission),
}

const AILMENTS: [Ailment; 14] = [
    Ailment::Gone,
    Ailment::Gone,
    Ailment::Stopped,
    Ailment::Hung,
    Ailment::Hung,
    Ailment::Slow(4),
    Ailment::SaysIll,
    Ailment::TooBusyForChecks,
    Ailment::NoMetrics,
    Ailment::Fails(Failure::ServerError(500)),
    Ailment::Fails(Failure::ErrorEvent),
    Ailment::Fails(Failure::Malformed),
    Ailment::Fails(Failure::Overloaded(503)),
    Ailment::EngineDead,
];

impl World {
    /// Seeds differ in how much goes wrong: from nothing to something every second.
    pub(crate) fn plan_mishaps(&mut self) {
        let count = self.fate.choice([0, 3, 10, 20, 40]).unwrap();
        for _ in 0..count {
            let at = Duration::from_millis(self.fate.u64(..TROUBLE.as_millis() as u64));
            self.plan_one(at);
        }
        self.after(TROUBLE, Event::Mishap(Mishap::AllIsWell));
    }

    fn plan_one(&mut self, at: Duration) {
        let server = self.fate.usize(..self.servers.len());
        let lasts = Duration::from_millis(self.fate.choice([300, 1_500, 4_000, 12_000]).unwrap());
        let (begins, ends) = match self.fate.u32(..16) {
            0 => {
                let ailment = self.fate.choice([Ailment::Stopped, Ailment::Hung]).unwrap();
                (Mishap::Blackout(ailment), Mishap::AllIsWell)
            }
            1 => (Mishap::Sleeps(lasts), Mishap::Sleeps(Duration::ZERO)),
            2 => (
                Mishap::Ordered(Order::Configured(Some(server))),
                Mishap::Ordered(Order::Configured(None)),
            ),
            3 => (
                Mishap::Ordered(Order::Admission(server, Admission::Draining)),
                Mishap::Ordered(Order::Admission(server, Admission::Open)),
            ),
            // Up and down again: it flaps.
            4 => {
                for nth in 1..6 {
                    self.after(at + lasts * nth, Event::Mishap(Mishap::Ails(server, None)));
                    let gone = Mishap::Ails(server, Some(Ailment::Gone));
                    self.after(at + lasts * nth + lasts / 2, Event::Mishap(gone));
                }
                (Mishap::Ails(server, Some(Ailment::Gone)), Mishap::Ails(server, None))
            }
            _ => {
                let ailment = self.fate.choice(AILMENTS).unwrap();
                (Mishap::Ails(server, Some(ailment)), Mishap::Ails(server, None))
            }
        };
        self.after(at, Event::Mishap(begins));
        self.after(at + lasts, Event::Mishap(ends));
    }

    pub(crate) fn suffer(&mut self, mishap: Mishap) {
        // What begins late, or flaps, may have been meant to go on beyond the end of all trouble.
        let is_over = self.now >= Timestamp::after_start(TROUBLE);
        match mishap {
            Mishap::AllIsWell => {
                for at in 0..self.servers.len() {
                    self.ail(at, None);
                    self.at_once(Event::Order(Order::Admission(at, Admission::Open)));
                }
                self.at_once(Event::Order(Order::Configured(None)));
            }
            _ if is_over => {}
            Mishap::Ails(at, ailment) => self.ail(at, ailment),
            Mishap::Blackout(ailment) => {
                for at in 1..self.servers.len() {
                    self.ail(at, Some(ailment));
                }
            }
            Mishap::Sleeps(time) => {
                let until = self.now + time;
                if until > self.router.asleep_until {
                    (self.router.asleep_until, self.router.slept) = (until, time);
                }
            }
            Mishap::Ordered(order) => self.at_once(Event::Order(order)),
        }
    }

    pub(crate) fn obey(&mut self, order: Order) {
        match order {
            Order::Configured(left_out) => self.configure(|at| Some(at) != left_out),
            Order::Admission(at, admission) => self.admit(at, admission),
        }
    }

    fn ail(&mut self, at: usize, ailment: Option<Ailment>) {
        let signs = self.servers[at].fall(ailment, self.now);
        self.deliver(signs);
    }
}
