//! What a simulated balancer says to its peers, and makes of what they say.

use std::net::IpAddr;

use foobar_common::slot::{Member as Id, Phase};
use foobar_common::time::{TICK_SHIFT, age, note_lifetime, ticks};

use super::super::notes::Note;
use super::super::{CLIENTS, SLOTS, T, Without};
use super::{
    Balancer, Change, Digest, Envelope, MemberName, Message, Node, Outcome, Relation, Report, Roster, Seen,
    address, backend_of, key, replica, service,
};
use crate::cluster::message::{FlowNote, Notes, Stage, Starts, Table};

impl Balancer {
    pub(in super::super) fn connected(&mut self, node: &str, now_ns: u64) {
        let changes = self.agreement.connected(node, now_ns);
        self.has_held_back = true;
        self.perform(changes, now_ns);
        self.hold(now_ns);
    }

    pub(in super::super) fn lost(&mut self, node: &str, now_ns: u64) {
        let changes = self.agreement.lost(node, now_ns);
        self.differences.forget(node);
        self.hold(now_ns);
        self.perform(changes, now_ns);
        self.converse(now_ns);
    }

    pub(in super::super) fn receive(&mut self, node: &str, envelope: Envelope, now_ns: u64) {
        let changes = self.agreement.receive(node, envelope, now_ns);
        self.perform(changes, now_ns);
        self.let_go(now_ns);
    }

    pub(super) fn let_go(&mut self, now_ns: u64) {
        if self.has_held_back && !self.holds_back(now_ns) {
            self.has_held_back = false;
            self.replan(now_ns);
        }
    }

    pub(super) fn hold(&mut self, now_ns: u64) {
        let is_held = self.agreement.is_held(now_ns) && !self.is_without(Without::Holding);
        self.table.set_held(is_held);
    }

    pub(super) fn look_at_differences(&mut self, now_ns: u64) {
        for (node, _) in self.differences.look(&self.agreement, now_ns).lasting {
            let ask = self.agreement.ask(&node);
            self.post(ask);
        }
    }

    pub(in super::super) fn post(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.outcomes
            .extend(changes.into_iter().map(|change| match change {
                Change::Send(node, envelope) => Outcome::Send(node, envelope),
                Change::Cut(node, _) => Outcome::Cut(node),
                other => unreachable!("{other:?} is for `perform`"),
            }));
    }

    pub(super) fn perform(&mut self, changes: Vec<Change>, now_ns: u64) {
        let mut has_news = false;
        for change in changes {
            if !matches!(change, Change::Reported(_)) && std::mem::take(&mut has_news) {
                self.reported(now_ns);
            }
            match change {
                Change::Send(..) | Change::Cut(..) => self.post([change]),
                Change::Reported(_) => has_news = true,
                Change::Met(_) => self.take_names(),
                Change::TellAll(node) => self.tell_all(&node, now_ns),
                Change::Starts(_, starts) => self.take_starts(&starts, now_ns),
                Change::Table(_, table) => self.take_table(&table, now_ns),
                Change::Notes(node, notes) | Change::KnownNotes(node, notes) => {
                    self.take_notes(&node, &notes, now_ns);
                }
                Change::Pending(..) => unreachable!("pending notes are told with the others here"),
            }
        }
        if has_news {
            self.reported(now_ns);
        }
    }

    fn reported(&mut self, now_ns: u64) {
        self.give_up_with_peers(now_ns);
        for (backend, member) in self.members.iter_mut().enumerate() {
            let said = self.agreement.drain(service(), address(backend));
            member.drain = member.drain.max(said);
        }
        self.replan(now_ns);
        self.converse(now_ns);
    }

    /// A peer has been met: the later names of members are this balancer's as well.
    fn take_names(&mut self) {
        for (backend, member) in self.members.iter_mut().enumerate() {
            let theirs = self.agreement.incarnation(service(), address(backend));
            member.incarnation = member.incarnation.max(theirs);
        }
    }

    /// Tells the peers what is new: slots that have begun to move, and reports.
    pub(super) fn converse(&mut self, now_ns: u64) {
        let slots = self.table.take_started();
        if let Some(starts) = replica::starts(service(), &slots)
            && !self.is_without(Without::Starts)
        {
            let changes = self.agreement.share(Message::Starts(starts));
            self.post(changes);
        }
        let seen = |(backend, member): (usize, &super::Member)| Seen {
            name: name(backend, member),
            observed: member.observed,
            drain: member.drain,
        };
        let said: Vec<u8> = self
            .members
            .iter()
            .flat_map(|member| [member.weight as u8, u8::from(member.drain.drained)])
            .collect();
        let report = Report {
            service: service(),
            version: 0,
            members: self.members.iter().enumerate().map(seen).collect(),
            crowded: false,
            digest: self.digest(said),
        };
        let changes = self.agreement.set_reports([report]);
        self.perform(changes, now_ns);
    }

    /// The digest of what is `said` of members and of the table, made anew where something of it has changed.
    fn digest(&mut self, said: Vec<u8>) -> Digest {
        let members = self.members.iter();
        let lives = members.map(|member| (member.incarnation, member.born, member.id));
        let of = (self.table.revision(), said, lives.collect::<Vec<_>>());
        if let Some((made_of, digest)) = &self.digest
            && *made_of == of
        {
            return *digest;
        }
        let digest = replica::digest(&of.1, &self.table, &self.roster());
        self.digest = Some((of, digest));
        digest
    }

    fn roster(&self) -> Roster {
        let mut roster = Roster::default();
        for (backend, member) in self.members.iter().enumerate() {
            roster.insert(name(backend, member), member.born, member.id);
        }
        roster
    }

    fn take_starts(&mut self, starts: &Starts, now_ns: u64) {
        replica::take_starts(starts, &mut self.table, now_ns, T);
    }

    fn take_table(&mut self, table: &Table, now_ns: u64) {
        if self.is_without(Without::Reconciling) {
            return;
        }
        // The first table is taken as it is; others may be those of newcomers, and are reconciled with it.
        let relation = if std::mem::take(&mut self.is_newcomer) {
            Relation::Newcomer
        } else {
            Relation::Equal
        };
        let roster = self.roster();
        replica::take_table(table, &mut self.table, &roster, relation, now_ns, T)
            .expect("a table of this service");
    }

    /// Tells the peers of notes: client, member, age in ticks, stage.
    pub(super) fn tell(&mut self, notes: &[(usize, Id, u32, Stage)]) {
        self.outcomes.extend(
            notes
                .iter()
                .map(|&(client, _, age, _)| Outcome::Told(client, age)),
        );
        if let Some(message) = self.notes_message(notes) {
            let changes = self.agreement.share(message);
            self.post(changes);
        }
    }

    fn notes_message(&self, notes: &[(usize, Id, u32, Stage)]) -> Option<Message> {
        let mut said = Notes {
            service: service(),
            members: Vec::new(),
            notes: Vec::new(),
        };
        for &(client, id, age, stage) in notes {
            let (backend, is_gone, _) = self.targets[usize::from(id)];
            if is_gone {
                continue;
            }
            let name = name(backend, &self.members[backend]);
            let place = said
                .members
                .iter()
                .position(|have| *have == name)
                .unwrap_or_else(|| {
                    said.members.push(name);
                    said.members.len() - 1
                });
            let key = key(client);
            said.notes.push(FlowNote {
                source: IpAddr::from(key.source),
                source_port: u16::from_be(key.source_port_be),
                destination_port: u16::from_be(key.destination_port_be),
                member: place as u16,
                age_ms: ((u64::from(age) << TICK_SHIFT) / 1_000_000) as u32,
                stage,
            });
        }
        (!said.notes.is_empty()).then_some(Message::Notes(said))
    }

    fn tell_all(&mut self, node: &str, now_ns: u64) {
        let now = ticks(now_ns);
        let table = replica::table(service(), &self.table, &self.roster(), now_ns);
        let counting = (0..CLIENTS).filter_map(|client| {
            let note = self.notes.notes[client]?;
            let idle = age(now, note.used);
            let counts =
                self.table.slot(client % SLOTS).phase() != Phase::Settled && idle <= note_lifetime(T);
            counts.then_some((client, note.member, idle, note.stage))
        });
        let notes: Vec<_> = counting.collect();
        let notes = self
            .notes_message(&notes)
            .filter(|_| !self.is_without(Without::AllNotes));
        let changes: Vec<Change> = std::iter::once(Message::Table(table))
            .chain(notes)
            .filter_map(|message| self.agreement.send(node, message))
            .collect();
        self.post(changes);
        let complete = self.agreement.all_told(node);
        self.post(complete);
    }

    fn take_notes(&mut self, node: &Node, said: &Notes, now_ns: u64) {
        for note in &said.notes {
            let client = usize::from(note.source_port) - 1024;
            self.outcomes
                .push(Outcome::Heard(node.clone(), client, note.age_ms));
            let name = said.members[usize::from(note.member)];
            let member = &self.members[backend_of(name.address)];
            if name.incarnation < member.born {
                continue;
            }
            let id = member.id;
            if self.table.slot(client % SLOTS).phase() == Phase::Settled {
                if self.is_without(Without::Opening) {
                    continue;
                }
                self.table.open(client % SLOTS, now_ns);
            }
            let used = ticks(replica::since_ns(note.age_ms, now_ns));
            let heard = Note {
                member: id,
                used,
                stage: note.stage,
            };
            self.notes.hear(client, heard);
            self.renewals.known(client as u32, &key(client), used);
        }
    }
}

fn name(backend: usize, member: &super::Member) -> MemberName {
    MemberName {
        address: address(backend),
        incarnation: member.incarnation,
    }
}
