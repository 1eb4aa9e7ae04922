//! Some futures at once.

use alloc::{boxed::Box, vec::Vec};
use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// A future, or what became of it.
enum Part<F: Future> {
    Pending(Pin<Box<F>>),
    Ready(F::Output),
}

/// What all of them end with, in their order.
///
/// Each is polled whenever one of them is woken: there are as many as a device has keys.
/// (A set that knows which one it was, as `futures_util` has, is 5 KiB of an image for each
/// type of future.)
pub(super) async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F::Output: Unpin,
{
    let mut parts: Vec<Part<F>> = futures.map(|part| Part::Pending(Box::pin(part))).collect();
    poll_fn(|cx| {
        let mut all = Poll::Ready(());
        for part in &mut parts {
            if let Part::Pending(future) = part {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *part = Part::Ready(value),
                    Poll::Pending => all = Poll::Pending,
                }
            }
        }
        all
    })
    .await;
    let value = |part| match part {
        Part::Ready(value) => Some(value),
        Part::Pending(_) => None,
    };
    parts.into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::{
        future::Ready,
        pin::pin,
        task::{Context, Waker},
    };

    #[test]
    fn all_are_under_way_at_once_and_end_in_their_order() {
        let mut cx = Context::from_waker(Waker::noop());
        let begun = core::cell::Cell::new(0);
        let turns = |turns: u32| {
            let (begun, mut left) = (&begun, turns);
            poll_fn(move |_| {
                if left == turns {
                    begun.set(begun.get() + 1);
                }
                left -= 1;
                if left == 0 {
                    Poll::Ready(turns)
                } else {
                    Poll::Pending
                }
            })
        };
        let mut all = pin!(together([3, 1, 2].map(turns).into_iter()));
        assert!(all.as_mut().poll(&mut cx).is_pending());
        assert_eq!(begun.get(), 3);
        assert!(all.as_mut().poll(&mut cx).is_pending());
        assert_eq!(all.as_mut().poll(&mut cx), Poll::Ready([3, 1, 2].to_vec()));
        let mut none = pin!(together(core::iter::empty::<Ready<()>>()));
        assert_eq!(none.as_mut().poll(&mut cx), Poll::Ready(Vec::new()));
    }
}
