//! `/healthz`: can an app server be reached? Asked by connecting to each, at most once a second however many
//! ask, and answered from that.
//!
//! A connection is the question, not the app's own health: a site without its database still serves its
//! pages and says 503 where it must, and taking every web server out would help nobody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::body::Body;
use super::pages;

/// How long an answer stays true.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// How long a connection may take; a balancer's check, which waits for us, has a second.
const PATIENCE: Duration = Duration::from_millis(500);

/// The state of the app servers of one configuration.
#[derive(Debug)]
pub struct Health {
    upstreams: Vec<SocketAddr>,
    last: Mutex<Option<(Instant, Report)>>,
}

/// What `/healthz` says.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Report {
    /// `ok` or `unavailable`.
    pub status: &'static str,
    /// Each app server.
    pub upstreams: Vec<Reachability>,
}

/// Whether one app server takes connections.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Reachability {
    /// Its address.
    pub address: SocketAddr,
    /// True where a connection was made in time.
    pub reachable: bool,
}

impl Health {
    /// Of these app servers.
    #[must_use]
    pub fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self {
            upstreams,
            last: Mutex::new(None),
        }
    }

    /// The state, at most a second old. Those who ask meanwhile wait for the same probe.
    pub async fn report(&self) -> Report {
        let mut last = self.last.lock().await;
        if let Some((when, report)) = &*last
            && when.elapsed() < FRESH_FOR
        {
            return report.clone();
        }
        let report = self.probe().await;
        *last = Some((Instant::now(), report.clone()));
        report
    }

    async fn probe(&self) -> Report {
        let upstreams = join_all(self.upstreams.iter().map(|&address| async move {
            let reachable = matches!(timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_)));
            Reachability { address, reachable }
        }))
        .await;
        let any = upstreams.iter().any(|upstream| upstream.reachable);
        Report {
            status: if any { "ok" } else { "unavailable" },
            upstreams,
        }
    }

    /// 200 or 503 with the report.
    pub async fn answer(&self) -> Response<Body> {
        let report = self.report().await;
        let status = if report.status == "ok" {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        pages::answer(status, "application/json", serde_json::json!(report).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn one_of_two_is_enough_and_many_askers_cost_one_probe() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let open = listener.local_addr().expect("an address");
        let closed = {
            let gone = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            gone.local_addr().expect("an address")
        };
        let health = Health::new(vec![closed, open]);
        let reports = join_all((0..50).map(|_| health.report())).await;
        assert!(reports.iter().all(|report| report.status == "ok"));
        assert_eq!(
            reports[0]
                .upstreams
                .iter()
                .map(|one| one.reachable)
                .collect::<Vec<_>>(),
            [false, true]
        );
        listener.accept().await.expect("the probe");
        let second = timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(second.is_err(), "a second probe came");
    }
}
