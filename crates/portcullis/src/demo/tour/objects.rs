//! The tour's objects and amounts: whose an invoice is, and how fresh the second factor must be.

use std::time::Duration;

use super::login::Tokens;
use super::show::{Expect, Show};

/// Her own, another's, and one that is not there: the last two cannot be told apart.
pub(super) async fn invoices(show: &mut Show<'_>, token: &str) -> anyhow::Result<()> {
    let api = show.stage.place.api.clone();
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str())];
    let answer = show.client.get(&format!("{api}/invoices/inv-alice"), &fields).await?;
    show.step("her own invoice", "GET /v1/invoices/inv-alice", &answer, Expect::status(200)).await;
    let other = show.client.get(&format!("{api}/invoices/inv-bob"), &fields).await?;
    show.step("another's invoice", "GET /v1/invoices/inv-bob", &other, Expect::status(404)).await;
    let none = show.client.get(&format!("{api}/invoices/inv-nobody"), &fields).await?;
    let target = "GET /v1/invoices/inv-nobody";
    show.step("an invoice that is not there", target, &none, Expect::status(404)).await;
    let same = without_id(&other.text()) == without_id(&none.text());
    show.fact("the two answers are the same", "byte for byte but the request's id", 404, same);
    Ok(())
}

/// A small amount passes; a large one wants a second factor of the last two minutes, and a body
/// that says it twice says nothing.
pub(super) async fn amounts(show: &mut Show<'_>, tokens: &Tokens) -> anyhow::Result<()> {
    let url = format!("{}/accounts/acc-alice/payments", show.stage.place.api);
    let bearer = format!("Bearer {}", tokens.access);
    let target = "POST /v1/accounts/acc-alice/payments";
    let large = r#"{"amount": 250000, "to": "Boat"}"#;
    let answer = show.client.post_json(&url, &bearer, large).await?;
    show.step("a large payment, just signed in", target, &answer, Expect::status(201)).await;
    let twice = r#"{"amount": 5, "amount": 250000, "to": "Boat"}"#;
    let answer = show.client.post_json(&url, &bearer, twice).await?;
    show.step("an amount said twice", target, &answer, Expect::status(400)).await;
    show.stage.clock.advance(Duration::from_secs(150));
    let answer = show.client.post_json(&url, &bearer, large).await?;
    let again = Expect::status(401).field("www-authenticate", "insufficient_user_authentication");
    show.step("a large payment two minutes later", target, &answer, again).await;
    let small = r#"{"amount": 1250, "to": "Bakery"}"#;
    let answer = show.client.post_json(&url, &bearer, small).await?;
    show.step("and a small one", target, &answer, Expect::status(201)).await;
    Ok(())
}

/// A refusal without the request's own id.
fn without_id(text: &str) -> String {
    let mut document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(members) = document.as_object_mut() {
        members.remove("request_id");
        members.remove("instance");
    }
    document.to_string()
}
