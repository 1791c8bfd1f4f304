//! Tests only: each operator broken once, to show that the agreement tests would see it.

use std::cell::Cell;

macro_rules! mutations {
    ($($name:ident),* $(,)?) => {
        /// One way in which an operator is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Mutation { $($name),* }

        impl Mutation {
            /// Every one.
            pub(super) const ALL: &[Mutation] = &[$(Mutation::$name),*];
        }
    };
}

mutations! {
    AndIsOr, AndEvaluatesBoth, AndForgivesLeft, OrIsAnd, OrEvaluatesBoth, OrForgivesLeft, NotKeeps,
    IfIsTurned, EqualIsUnequal, EqualErrsOnTypes, TextsFoldCase, NetworksEqualByMask,
    NetworksEqualByAddress, EntitiesEqualById, EntitiesEqualByKind, SetsEqualOneWay,
    LessIsLessEqual, LessIsGreater, LessEqualIsLess, LessEqualIsGreaterEqual, NegateWraps,
    NegateKeeps, AddWraps, AddSaturates, AddSubtracts, SubtractWraps, SubtractIsTurned,
    MultiplyWraps, MultiplyAdds, AbsentIsEmpty, HasIsAlways, HasIsTurned, ContainsIsTurned,
    ContainsAllIsTurned, ContainsAnyIsTurned, IsEmptyIsTurned, IsKindIsAlways, InIsFirstOnly,
    InIsIrreflexive, InIsEquality, InTakesOthers, GroupsByPrefix, DecimalLessIsLessEqual,
    DecimalLessEqualIsLess, LikeStopsEarly, LikeStarIsOne, LikeNeverFallsBack, InRangeIsTurned,
    InRangeByAddress, AddressInRangeIsEquality, AddressInRangeIsTurned, IsIpv4IsTurned, IsIpv6IsTurned, LoopbackForgetsPrefix,
    MulticastForgetsPrefix, ForbidIsIgnored, WaitingForbidIsJudged, ErringForbidPasses,
    ErringPermitGrants, OnlyFirstCondition, WaitingConditionIsJudged,
}

thread_local! {
    static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
}

impl Mutation {
    /// Whether this thread's evaluator is broken in this way.
    pub(super) fn is_on(self) -> bool {
        ON.get() == Some(self)
    }

    /// Breaks this thread's evaluator while `run` runs.
    pub(super) fn during<T>(self, run: impl FnOnce() -> T) -> T {
        ON.set(Some(self));
        let result = run();
        ON.set(None);
        result
    }
}
