//! When a lent value can be borrowed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use entwined_lend::{Lent, NotLent};

#[test]
fn outside_of_a_loan_there_is_nothing() {
    let lent = Lent::<u8>::new();
    assert_eq!(
        lent.try_with(|_| unreachable!()),
        Err::<(), _>(NotLent::Nothing)
    );
    lent.lend(&mut 1, || ());
    assert_eq!(
        lent.try_with(|_| unreachable!()),
        Err::<(), _>(NotLent::Nothing)
    );
}

#[test]
fn a_loan_is_used_as_often_as_one_likes() {
    let lent = Lent::new();
    let mut text = String::from("a");
    let length = lent.lend(&mut text, || {
        lent.with(|text| text.push('b'));
        lent.clone().with(|text| text.push('c'));
        lent.try_with(|text| text.len())
    });
    assert_eq!(length, Ok(3));
    assert_eq!(text, "abc");
}

#[test]
fn a_borrow_inside_a_borrow_is_refused() {
    let lent = Lent::new();
    lent.lend(&mut 1, || {
        lent.with(|value| {
            assert_eq!(
                lent.try_with(|_| unreachable!()),
                Err::<(), _>(NotLent::Borrowed)
            );
            *value = 2;
        });
        assert_eq!(lent.try_with(|value| *value), Ok(2));
    });
}

#[test]
fn the_inner_loan_hides_the_outer_one() {
    let lent = Lent::new();
    let (mut outer, mut inner) = (1, 10);
    lent.lend(&mut outer, || {
        lent.lend(&mut inner, || lent.with(|value| *value += 1));
        lent.with(|value| *value += 1);
    });
    assert_eq!((outer, inner), (2, 11));
}

#[test]
fn what_was_borrowed_can_be_lent_on() {
    let lent = Lent::new();
    let mut value = 1;
    lent.lend(&mut value, || {
        lent.with(|value| {
            lent.lend(value, || lent.with(|value| *value += 1));
            assert_eq!(lent.try_with(|_| ()), Err(NotLent::Borrowed));
            *value += 1;
        });
        lent.with(|value| *value += 1);
    });
    assert_eq!(value, 4);
}

#[test]
fn a_panic_ends_its_borrow_and_its_loan() {
    let lent = Lent::new();
    let mut value = 1;
    lent.lend(&mut value, || {
        catch_unwind(AssertUnwindSafe(|| {
            lent.try_with(|_| panic!("in a borrow"))
        }))
        .unwrap_err();
        assert_eq!(
            lent.try_with(|value| *value),
            Ok(1),
            "the loan is still active"
        );
        let inner = || lent.lend(&mut 5, || lent.try_with(|_| panic!("in a loan")));
        catch_unwind(AssertUnwindSafe(inner)).unwrap_err();
        assert_eq!(
            lent.try_with(|value| *value),
            Ok(1),
            "the outer loan is back"
        );
    });
    assert_eq!(lent.try_with(|_| ()), Err(NotLent::Nothing));
}

#[test]
fn a_value_with_borrows_in_it_can_be_lent() {
    let text = String::from("text");
    let lent = Lent::<Vec<&str>>::new();
    let mut list = Vec::new();
    lent.lend(&mut list, || lent.with(|list| list.push(&text)));
    assert_eq!(list, ["text"]);
}

#[test]
fn it_says_what_it_holds() {
    let lent = Lent::<u8>::default();
    assert_eq!(format!("{lent:?}"), "Lent(nothing lent)");
    lent.lend(&mut 1, || {
        assert_eq!(format!("{lent:?}"), "Lent(lent)");
        lent.with(|_| assert_eq!(format!("{lent:?}"), "Lent(lent and borrowed)"));
    });
    assert_eq!(
        NotLent::Nothing.to_string(),
        "the value is not lent at the moment"
    );
}
