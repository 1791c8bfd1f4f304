//! The refresh family and revocation against a reference model: for any interleaving of uses,
//! reuses, revocations, parallel uses and restarts, no two live successors fork, and nothing is
//! minted after a revocation returned.
//!
//! The model is the design's paragraph, written again from the other side: a list of generations,
//! each with when it began and whether its predecessor came back. The store is a file, and a restart
//! opens it again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use portcullis_core::revocation::Revoked;
use portcullis_core::time::{Clock, FrozenClock, Timestamp};
use portcullis_store::database::{Store, Tx};
use proptest::prelude::*;

use crate::outcome::Presented;
use crate::testing::*;
use crate::token::testing::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// The token that lies so many generations back (0: the newest) is used.
    Use(u64),
    /// The same by so many at once.
    Crowd(u64, usize),
    /// The same by another client.
    Stranger(u64),
    /// A token that is none.
    Garbage,
    /// So many seconds pass.
    Wait(u64),
    /// The server stops and starts again over the same file.
    Restart,
    /// RFC 7009, with the token that lies so many generations back.
    Revoke(u64),
    /// The session ends.
    SignOut,
}

fn event() -> impl Strategy<Value = Event> {
    let back = prop_oneof![6 => Just(0_u64), 6 => Just(1), 1 => 2_u64..4];
    let back = move || back.clone();
    prop_oneof![
        12 => back().prop_map(Event::Use),
        2 => (back(), 2_usize..5).prop_map(|(back, count)| Event::Crowd(back, count)),
        1 => back().prop_map(Event::Stranger),
        1 => Just(Event::Garbage),
        5 => prop_oneof![Just(0_u64), Just(1), Just(9), Just(10), Just(11), Just(300)]
            .prop_map(Event::Wait),
        2 => Just(Event::Restart),
        1 => back().prop_map(Event::Revoke),
        1 => Just(Event::SignOut),
    ]
}

/// One generation of the model: a token that was handed out.
struct Generation {
    since: Timestamp,
    predecessor_came: bool,
}

/// What the design says, and nothing else.
struct Model {
    generations: Vec<Generation>,
    over: bool,
}

impl Model {
    fn new() -> Model {
        let first = Generation { since: NOW, predecessor_came: false };
        Model { generations: vec![first], over: false }
    }

    fn newest(&self) -> u64 {
        self.generations.len() as u64
    }

    /// The number that lies so many generations back, if there was one.
    fn back(&self, back: u64) -> Option<u64> {
        self.newest().checked_sub(back).filter(|n| *n > 0)
    }

    /// The successor that presenting `n` must bring; `None`: a refusal.
    fn presented(&mut self, n: u64, now: Timestamp) -> Option<u64> {
        if self.over {
            return None;
        }
        match self.newest() - n {
            0 => {
                self.generations.push(Generation { since: now, predecessor_came: false });
                Some(n + 1)
            }
            1 if now <= self.generations.last()?.since.after(seconds(10)) => {
                self.generations.last_mut()?.predecessor_came = true;
                let running = self.generations.iter().rev().take_while(|one| one.predecessor_came);
                self.over = running.count() == 3;
                (!self.over).then_some(n + 1)
            }
            _ => {
                self.over = true;
                None
            }
        }
    }
}

/// The server under test, its model, and every access token that it ever minted.
struct Trial {
    world: World,
    model: Model,
    clock: Arc<FrozenClock>,
    seed: u64,
    access: Vec<String>,
    /// Each successor's text by its number: the identical one, however often.
    handed: BTreeMap<u64, String>,
}

async fn open(path: &Path, clock: &Arc<FrozenClock>, seed: u64) -> World {
    let revoked = Arc::new(Revoked::new());
    let store = Store::open(path, revoked.clone(), clock.clone()).expect("opens");
    let ground = Ground { store, clock: clock.clone(), revoked, seed, ..Ground::new() };
    World::over(ground, plain).await
}

impl Trial {
    async fn begin(path: &Path) -> Trial {
        let clock = Arc::new(FrozenClock::at(NOW));
        let world = open(path, &clock, 1).await;
        with_ada(&world).await;
        keep(&world, grant("one")).await;
        let (access, handed) = (Vec::new(), BTreeMap::new());
        Trial { world, model: Model::new(), clock, seed: 1, access, handed }
    }

    async fn happen(&mut self, event: &Event, path: &Path) {
        match event {
            Event::Use(back) => self.crowd(*back, 1).await,
            Event::Crowd(back, count) => self.crowd(*back, *count).await,
            Event::Stranger(back) => {
                let Some(n) = self.model.back(*back) else { return };
                let token = nth("one", n);
                let mut form = refreshing(&token);
                form[1] = ("client_id", "own");
                assert!(self.world.token(&form).await.result.is_err());
            }
            Event::Garbage => {
                let token = nth("one", self.model.newest()).replace("rt_g_one.", "rt_g_one.1");
                assert_eq!(broke(&refreshed(&self.world, &token).await), "RefreshTokenForged");
            }
            Event::Wait(count) => self.clock.advance(seconds(*count)),
            Event::Restart => {
                self.seed += 1;
                self.world.store.clone().close();
                self.world = open(path, &self.clock, self.seed).await;
            }
            Event::Revoke(back) => {
                let Some(n) = self.model.back(*back) else { return };
                let form = parameters(&[("client_id", "app"), ("token", &nth("one", n))]);
                let answered = self.world.identity.revoke(&[], &form, Presented::default()).await;
                assert!(answered.result.is_ok());
                self.model.over = true;
            }
            Event::SignOut => {
                let now = self.clock.now();
                let session = portcullis_core::id::Id::parse("s_one").expect("id");
                self.world.change(async move |tx: &Tx| tx.end_session(&session, now).await).await;
                self.model.over = true;
            }
        }
    }

    /// So many present the same number at once. In whatever order the store takes them, the model
    /// taking them one after the other must come to the same.
    async fn crowd(&mut self, back: u64, count: usize) {
        let Some(n) = self.model.back(back) else { return };
        let now = self.clock.now();
        let expected: Vec<_> = (0..count).map(|_| self.model.presented(n, now)).collect();
        let token = nth("one", n);
        let answers = if count == 1 {
            vec![refreshed(&self.world, &token).await]
        } else {
            at_once(count, || {
                let (identity, form) =
                    (self.world.identity.clone(), parameters(&refreshing(&token)));
                async move { identity.token(&[], &form, Presented::default()).await }
            })
        };
        let mut came = Vec::new();
        for answered in answers {
            let Ok(answer) = answered.result else { continue };
            let successor = answer.refresh_token.expect("rotates");
            came.push(successor.clone());
            self.access.push(answer.access_token);
            // No two successors of one generation fork.
            let known = self.handed.entry(n + 1).or_insert_with(|| successor.clone());
            assert_eq!(*known, successor);
        }
        let expected: Vec<_> = expected.into_iter().flatten().map(|n| nth("one", n)).collect();
        assert_eq!(came, expected);
    }

    /// What must be true whatever happened.
    async fn holds(&self) {
        let row = stored(&self.world, "one").await;
        assert_eq!(row.ended.is_some(), self.model.over);
        assert_eq!(row.family.counter, self.model.newest());
        let now = self.clock.now().unix();
        for token in &self.access {
            match self.world.claims(token) {
                Ok(claims) => assert!(!self.model.over && claims.exp > now),
                Err("token_revoked") => assert!(self.model.over),
                Err(other) => assert_eq!(other, "token_expired"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_family_is_the_model(events in proptest::collection::vec(event(), 1..20)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let mut trial = Trial::begin(&path).await;
            for event in &events {
                trial.happen(event, &path).await;
                trial.holds().await;
            }
        });
    }
}
