//! Proof that a thing was found alive in *this* transaction: what `token::issue` asks for. Closes the
//! largest class of holes in the peers: "disabled, but still works".

use std::marker::PhantomData;

/// A record re-read in the transaction and found active; cannot outlive the transaction.
///
/// ```compile_fail,E0451
/// use portcullis_store::active::Active;
/// let forged: Active<'static, u8> = Active { record: 7, tx: std::marker::PhantomData };
/// ```
/// The twin, which only reads:
/// ```
/// use portcullis_store::active::Active;
/// fn read(active: &Active<'_, u8>) -> u8 { **active }
/// ```
///
/// Nor does it leave its transaction:
/// ```compile_fail
/// use portcullis_core::id::{self, Id};
/// use portcullis_store::database::{Store, StoreFault, Tx};
/// async fn keep(store: &Store, id: Id<id::User>) -> Result<bool, StoreFault> {
///     let work = async move |tx: &Tx| Ok::<_, StoreFault>(tx.active_user(&id).await?);
///     Ok(store.transact(work).await?.is_some())
/// }
/// ```
/// The twin, which takes an answer out instead of the proof:
/// ```
/// use portcullis_core::id::{self, Id};
/// use portcullis_store::database::{Store, StoreFault, Tx};
/// async fn keep(store: &Store, id: Id<id::User>) -> Result<bool, StoreFault> {
///     let work = async move |tx: &Tx| Ok::<_, StoreFault>(tx.active_user(&id).await?.map(drop));
///     Ok(store.transact(work).await?.is_some())
/// }
/// ```
pub struct Active<'tx, T> {
    record: T,
    tx: PhantomData<&'tx ()>,
}

impl<'tx, T> Active<'tx, T> {
    pub(crate) fn found(record: T) -> Self {
        Active { record, tx: PhantomData }
    }
}

impl<T> std::ops::Deref for Active<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.record
    }
}
