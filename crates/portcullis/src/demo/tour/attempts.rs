//! The tour's floods, guesses and bad files.

use std::time::Duration;

use super::login;
use super::show::{Expect, Show};

/// More than the burst of the demo's `anonymous` limit.
const FLOOD: usize = 40;

/// Requests beyond the limit get 429 with the wait.
pub(super) async fn public_flood(show: &mut Show<'_>) -> anyhow::Result<()> {
    let url = format!("{}/rates", show.stage.place.api);
    for _ in 0..FLOOD {
        let answer = show.client.get(&url, &[]).await?;
        if answer.status == 429 {
            let limited = Expect::status(429).field("retry-after", "");
            let waits = !answer.field("retry-after").is_empty();
            show.step(
                "a flood of the public operation",
                "GET /v1/rates, again and again",
                &answer,
                limited,
            )
            .await;
            show.fact("the answer says how long to wait", "Retry-After", 429, waits);
            return Ok(());
        }
    }
    show.fact("a flood of the public operation", "no request was limited", 200, false);
    Ok(())
}

/// Ten wrong passwords from an unknown device are throttled; the owner, on a device that she logged
/// in with before, at the same address, is not.
pub(super) async fn ten_wrong_passwords(show: &mut Show<'_>) -> anyhow::Result<()> {
    let stranger = show.stage.place.client()?;
    let owner = std::mem::replace(&mut show.client, stranger);
    let (_, challenge) = login::verifier();
    let mut last = login::begin(show, &challenge).await?;
    for _ in 0..10 {
        let page = login::begin(show, &challenge).await?;
        last = login::password(show, &page, "alice", "not her password").await?;
    }
    show.step(
        "ten wrong passwords",
        "POST /login",
        &last,
        Expect::status(429).body("Too many attempts"),
    )
    .await;
    show.client = owner;
    show.stage.clock.advance(Duration::from_secs(1));
    login::whole(show).await?;
    show.fact(
        "the owner, on her known device, is not locked out",
        "a whole login at the same address",
        200,
        true,
    );
    Ok(())
}

/// A bad file changes nothing and says why.
pub(super) async fn bad_config(show: &mut Show<'_>) -> anyhow::Result<()> {
    let path = show.stage.place.home.join("portcullis.toml");
    let good = std::fs::read_to_string(&path)?;
    let bad = good.replace("allow = \"anyone\", limit", "alow = \"anyone\", limit");
    std::fs::write(&path, &bad)?;
    let refused = show.stage.server.reload();
    std::fs::write(&path, &good)?;
    let (detail, is_refused) = match refused {
        Ok(()) => ("the bad file was taken".to_owned(), false),
        Err(faults) => (faults.to_string(), true),
    };
    let indented = detail.trim_end().replace('\n', "\n    ");
    show.fact("a config with a misspelt key is refused", &indented, 0, is_refused);
    show.stage.clock.advance(Duration::from_secs(120));
    let answer = show.client.get(&format!("{}/rates", show.stage.place.api), &[]).await?;
    show.step("the version in force stays", "GET /v1/rates", &answer, Expect::status(200)).await;
    show.stage.server.reload()?;
    let answer = show.client.get(&format!("{}/rates", show.stage.place.api), &[]).await?;
    show.step("and the mended file loads", "GET /v1/rates", &answer, Expect::status(200)).await;
    Ok(())
}
