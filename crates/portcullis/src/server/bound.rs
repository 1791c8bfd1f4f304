//! What a start binds, and a reload cannot move: addresses and the data directory.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::FileRefused;
use crate::config;

/// What was bound at start.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bound {
    listen: Vec<SocketAddr>,
    plain: Vec<SocketAddr>,
    pub(super) health: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) data: PathBuf,
    egress: Vec<ipnet::IpNet>,
}

impl Bound {
    /// What this `[server]` would bind.
    pub(super) fn of(server: &config::Server) -> Bound {
        Bound {
            listen: server.listen.clone(),
            plain: server.plain.clone(),
            health: server.health,
            metrics: server.metrics,
            data: server.data.clone(),
            egress: server.egress.clone(),
        }
    }

    /// Whether a changed file can be taken by a running server. It is refused rather than taken by
    /// halves: whoever narrows `listen` must not believe that it is narrow now.
    ///
    /// # Errors
    /// Names the keys that want a restart.
    pub(super) fn holds_for(&self, server: &config::Server) -> Result<(), FileRefused> {
        let wanted = Bound::of(server);
        let keys = [
            ("listen", self.listen != wanted.listen),
            ("plain", self.plain != wanted.plain),
            ("health", self.health != wanted.health),
            ("metrics", self.metrics != wanted.metrics),
            ("data", self.data != wanted.data),
            ("egress", self.egress != wanted.egress),
        ];
        let moved: Vec<&str> =
            keys.into_iter().filter_map(|(key, moved)| moved.then_some(key)).collect();
        if moved.is_empty() {
            return Ok(());
        }
        let keys = moved.join("`, `");
        Err(FileRefused(format!(
            "error[NeedsRestart]: `{keys}` of [server] changed, and a running server cannot move; \
             restart it, or undo the change (nothing was loaded)"
        )))
    }
}
