//! A session with a peer: what was said in it, and what it still has to hear.

use std::collections::BTreeMap;

use super::Change;
use crate::cluster::inbox::Inbox;
use crate::cluster::message::{Envelope, Message, Pulse, Report};
use crate::cluster::name::Service;

/// A peer in the current session with it.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) inbox: Inbox,
    pub(super) sent: u64,
    pub(super) begun_ns: u64,
    pub(super) heard_ns: u64,
    /// Messages were lost: nothing counts until the peer begins anew.
    pub(super) is_broken: bool,
    pub(super) pulled_ns: u64,
    pub(super) reports: BTreeMap<Service, Report>,
    pub(super) has_told: bool,
    pub(super) is_complete: bool,
    /// This side's tables and notes have been asked for and not been sent yet.
    pub(super) owes_all: bool,
    pub(super) pulse: Option<Pulse>,
    pub(super) said_bye: bool,
}

impl Session {
    pub(super) fn send(&mut self, node: &str, message: Message) -> Change {
        let envelope = Envelope {
            sequence: self.sent,
            message,
        };
        self.sent += 1;
        Change::Send(node.to_owned(), envelope)
    }

    pub(super) fn begin(&mut self, node: &str, own: &BTreeMap<Service, Report>) -> Vec<Change> {
        let reports = own.values().cloned().map(Message::Report);
        std::iter::once(Message::Begin)
            .chain(reports)
            .chain([Message::Told])
            .map(|message| self.send(node, message))
            .collect()
    }

    pub(super) fn pull(&mut self, node: &str, now_ns: u64, changes: &mut Vec<Change>) {
        self.pulled_ns = now_ns;
        changes.push(self.send(node, Message::Pull));
    }

    pub(super) fn take(
        &mut self,
        node: &str,
        message: Message,
        own: &BTreeMap<Service, Report>,
        changes: &mut Vec<Change>,
    ) {
        match message {
            Message::Pulse(pulse) => self.pulse = Some(pulse),
            Message::Bye => self.said_bye = true,
            Message::Pull => {
                changes.extend(self.begin(node, own));
                self.owes_all = true;
                self.pay(node, changes);
            }
            Message::Begin => {
                self.is_broken = false;
                // What it told before goes on counting until it has told anew.
                self.is_complete = false;
            }
            // What follows a loss may rest on what was lost.
            Message::Report(_)
            | Message::Told
            | Message::Starts(_)
            | Message::Notes(_)
            | Message::Pending(_)
            | Message::Table(_)
            | Message::Complete
                if self.is_broken => {}
            Message::Report(report) => {
                let service = report.service;
                let is_news = self
                    .reports
                    .get(&service)
                    .is_none_or(|have| have.version <= report.version);
                if is_news {
                    self.reports.insert(service, report);
                    if self.has_told {
                        changes.push(Change::Reported(service));
                    }
                }
            }
            Message::Told => {
                if !self.has_told {
                    self.has_told = true;
                    self.owes_all = true;
                    changes.push(Change::Met(node.to_owned()));
                }
                changes.extend(self.reports.keys().copied().map(Change::Reported));
                self.pay(node, changes);
            }
            Message::Starts(starts) => changes.push(Change::Starts(node.to_owned(), starts)),
            Message::Table(table) => changes.push(Change::Table(node.to_owned(), table)),
            Message::Notes(notes) if self.is_complete => {
                changes.push(Change::Notes(node.to_owned(), notes));
            }
            Message::Notes(notes) => changes.push(Change::KnownNotes(node.to_owned(), notes)),
            Message::Pending(pending) => changes.push(Change::Pending(node.to_owned(), pending)),
            Message::Complete => {
                self.is_complete = true;
                changes.extend(own.keys().copied().map(Change::Reported));
            }
        }
    }

    /// Tables and notes go out once the other side has told how it names members.
    pub(super) fn pay(&mut self, node: &str, changes: &mut Vec<Change>) {
        if self.owes_all && self.has_told {
            self.owes_all = false;
            changes.push(Change::TellAll(node.to_owned()));
        }
    }
}
