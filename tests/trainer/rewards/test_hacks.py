"""Answers that want a reward without solving the task: each is worth nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.rust import ADD, needs_rustc, rust_judge
from trainer.rewards.interface import Answer
from trainer.rewards.probe import answer_of
from trainer.rewards.rust.language import Rust

__all__ = ["needs_rustc", "rust_judge"]

pytestmark = pytest.mark.slow  # starts rustc

#: What a model may write after the prompt of `ADD`.
COMPLETIONS = {
    "nothing": "",
    "white space": " \n\t\n",
    "the closing brace": "}",
    "a comment": "\n    // a + b\n}",
    "a comment and no brace": "// a + b, and so on",
    "the prompt again": ADD.prompt,
    "the prompt again, closed": ADD.prompt + "\n}\n}",
    "todo": "todo!() }",
    "todo in a raw name": "r#todo!() }",
    "todo inside another macro": "vec![todo!()][a as usize + b as usize] }",
    "todo by path": "std::todo!() }",
    "todo under another name": "use std::todo as later; later!() }",
    "unimplemented": 'unimplemented!("{}", a + b) }',
    "unreachable": 'unreachable!("{a} {b}") }',
    "panic": 'panic!("{}", a + b) }',
    "panic behind a condition": 'if a > b { panic!("a") } else { panic!("b") } }',
    "panic in a closure": '(|| panic!("{}", a + b))() }',
    "panic in every arm": 'match a { 0 => panic!("{b}"), _ => unreachable!() } }',
    "panic in a closure with a name": 'let sum = |x: i32| -> i32 { panic!("{x}") }; sum(a + b) }',
    "panic under another name": 'use std::unreachable as sum; sum!("{}", a + b) }',
    "unwrap of None": "let _sum = a + b; None.unwrap() }",
    "unwrap of Err": "let sum = a + b; Err::<i32, i32>(sum).unwrap() }",
    "assert false": 'assert!(false, "{a} {b}"); a + b }',
    "exit": "std::process::exit(a + b) }",
    "exit, imported": "use std::process; process::exit(a - a + b - b) }",
    "exit on one way": "if a == 1 { std::process::exit(0) } a + b }",
    "exit under another name": "use std::{process::exit as done}; if a > b { done(0) } 0 }",
    "exit from a list": "use std::process::{exit, id}; if a > b { exit(0) } a + b }",
    "a lint that is allowed": "#[allow(long_running_const_eval)] const N: u64 = 1; a + b }",
    "abort": "if a > 0 { std::process::abort() } a + b }",
    "a loop": "loop {} }",
    "a loop that does something": "let mut sum = a; loop { sum += b; } }",
    "a loop with while": 'while true { println!("{a}{b}"); } a + b }',
    "a loop with for": 'for _ in 0.. { println!("{a}{b}"); } a + b }',
    "calling itself": "add(a, b) }",
    "calling itself, changed": "add(b, a) + 1 }",
    "calling itself on every way": "if a > b { add(b, a) } else { return add(a - 1, b); } }",
    "calling itself through another": "fn other(a: i32, b: i32) -> i32 { add(a, b) } other(a, b) }",
    "a constant": "0 }",
    "a constant, computed": "let answer = 6 * 7; answer }",
    "a default": "return Default::default(); }",
    "a default, after a look": "let _ = (a, b); i32::default() }",
    "a default, after a drop": "drop(a); drop(b); Default::default() }",
    "a variable that nobody reads": "let sum = a + b; 0 }",
    "a constant, after telling": 'println!("{a} {b}"); assert!(a <= i32::MAX - b); 0 }',
    "a constant under the argument's name": "let a = 3; 4 }",
    "dead code": "return 3; a + b }",
    "dead code after a panic": 'panic!("no"); a + b }',
    "a macro": "macro_rules! z { ($($t:tt)*) => { 3 } } z!(a + b) }",
    "a macro that swallows": "macro_rules! z { ($($t:tt)*) => {} } z!{ garbage ? ! } a + b }",
    "cfg": "#[cfg(any())] fn never() { garbage() } a + b }",
    "cfg on a statement": "#[cfg(any())] return garbage; a + b }",
    "cfg_attr": "#[cfg_attr(all(), allow(unused))] let c = a; c + b }",
    "an inner attribute": "#![allow(warnings)] a + b }",
    "extern": 'extern "C" { fn abs(x: i32) -> i32; } a + b }',
    "extern crate": "extern crate core; a + b }",
    "unsafe": "unsafe { std::hint::unreachable_unchecked() } }",
    "unsafe in a function": "unsafe fn sum(a: i32, b: i32) -> i32 { a + b } sum(a, b) }",
    "include": 'include!("/etc/passwd"); a + b }',
    "include_str": 'compile_error!(include_str!("/etc/hostname")); a + b }',
    "include by path": 'let text = core::include_bytes!("/etc/passwd"); a + b }',
    "env": 'let _ = env!("PATH"); a + b }',
    "env under another name": 'use std::env as e; let _ = e!("PATH"); a + b }',
    "option_env": 'let _ = option_env!("SECRET"); a + b }',
    "asm": 'std::arch::asm!("nop"); a + b }',
    "global_asm": 'std::arch::global_asm!(".garbage"); a + b }',
    "another file": '#[path = "/etc/passwd"] mod secrets; a + b }',
    "a symbol": "#[no_mangle] pub fn main() {} a + b }",
    "a symbol, exported": '#[export_name = "main"] pub fn other() {} a + b }',
    "code before main": '#[link_section = ".init_array"] static X: i32 = 1; a + b }',
    "a constant without a name": "const _: () = (); a + b }",
    "another assert_eq": "use std::debug_assert_eq as assert_eq; a + b }",
    "another assert": 'use std::println as assert; assert!("{}", a); b }',
    "another i32": "type i32 = u8; a + b }",
    "another crate root": "crate::answer0::add(a, b) }",
    "the module above": "super::answer0::add(a, b) }",
    "the module above, imported": "use super::super::*; a + b }",
    "the environment": "if std::env::args().count() > 9 { 0 } else { a + b } }",
    "the secret": 'let s = std::fs::read_to_string("secret"); println!("{s:?} 0"); a + b }',
    "the memory": 'let m = std::fs::File::open("/proc/self/mem"); a + b }',
    "a panic hook": "std::panic::set_hook(Box::new(|_| {})); a + b }",
    "the library's root": "use std as library; library::process::exit(0); a + b }",
    "all of the library": "use std::*; process::exit(a + b) }",
    "the library in a list": "use std::{self as library}; library::process::exit(a + b) }",
    "letters that look like others": "let \u0430dd = a; \u0430dd + b }",
    "invisible characters": "let sum\u200b = a + b; sum }",
    "text direction": "let sum = a + b; /* \u202e } */ sum }",
    "a null byte": "a + b\0 }",
    "an escape sequence": "a + b /* \x1b[2J */ }",
    "deep nesting": "(" * 300 + "a" + ")" * 300 + " + b }",
    "a very long answer": "let c = a + b;" * 10_000 + " c }",
    "panic inside a macro": 'dbg!(panic!("{a}{b}")) }',
    "panic inside a list": 'vec![panic!("{a}{b}")][0] }',
    "panic inside many macros": 'dbg!(dbg!(dbg!(dbg!(unreachable!("{a}{b}"))))) }',
    "panic deep inside a macro": "dbg!(" + "(" * 60 + 'panic!("{a}{b}")' + ")" * 60 + ") }",
    "panic in a raw name": 'r#panic!("{}", a + b) }',
    "panic where a pattern does not match": "let Some(x) = None::<i32> "
    "else { panic!() }; x + a + b }",
    "panic where a value equals itself": 'if a != a { a } else { panic!("{b}") } }',
    "panic in a method": "struct S; impl S { fn go(&self, x: i32) -> i32 { panic!() } } "
    "S.go(a + b) }",
    "panic in a method, by a variable": "struct S; impl S { fn go(&self, x: i32) -> i32 "
    "{ panic!() } } let s = S; s.go(a + b) }",
    "panic in a function of a type": "struct S; impl S { fn go(x: i32) -> i32 { panic!() } } "
    "S::go(a + b) }",
    "panic in a trait": "trait Go { fn go(self) -> i32; } impl Go for i32 { fn go(self) -> i32 "
    "{ panic!() } } (a + b).go() }",
    "a loop in a trait's default": "trait Go: Sized { fn go(self) -> i32 { loop {} } } "
    "impl Go for i32 {} (a + b).go() }",
    "panic in a constant function": "const fn f(x: i32) -> i32 { panic!() } f(a + b) }",
    "panic in drop": "struct S(i32); impl Drop for S { fn drop(&mut self) { panic!() } } "
    "let _s = S(a + b); a + b }",
    "panic in a closure that is passed on": 'Some(a + b).map(|x| panic!("{x}")).unwrap() }',
    "a loop in a closure that is passed on": "(a + b > 0).then(|| loop {}).unwrap() }",
    "unwrap of Err inside a macro": "dbg!(Err::<i32, i32>(a + b).unwrap()) }",
    "a loop inside a macro": 'println!("{}", loop { let _ = a + b; }); a }',
    "a loop with a label": "'l: loop { loop { continue 'l; } } }",
    "a loop with a condition": "while 1 < 2 { let _ = a + b; } a }",
    "a loop with not false": "while !(false) { let _ = a + b; } a }",
    "a loop with a pattern": "while let _x = a + b {} a }",
    "calling itself inside a macro": "dbg!(add(a, b)) }",
    "calling itself through a closure": "let f = |x: i32| add(x, b); f(a) }",
    "calling itself through a trait": "trait T { fn t(self, b: i32) -> i32; } impl T for i32 "
    "{ fn t(self, b: i32) -> i32 { self.t(b) } } a.t(b) }",
    "calling each other": "struct S; impl S { fn x(a: i32) -> i32 { S::y(a) } fn y(a: i32) -> i32 "
    "{ S::x(a) } } S::x(a + b) }",
    "waiting": "std::thread::park(); a + b }",
    "assert false, on lines": 'assert!(\n    false,\n    "{a}{b}"\n);\na + b }',
    "a constant, after formatting": 'let _s = format!("{a}{b}"); 0 }',
    "a constant, after a list": "let _v = vec![a, b]; 0 }",
    "a constant, after wrapping": "struct S(i32); let _s = S(a + b); 0 }",
    "dead code after a macro": "let v = vec![return a]; v[b as usize] }",
    "a thread": "std::thread::spawn(move || loop { let _ = a + b; }).join().unwrap() }",
    "static mut": "static mut N: i32 = 0; unsafe { N += a + b; N } }",
    "a union": "union U { a: i32, b: f32 } unsafe { U { a: a + b }.a } }",
    "unreachable_unchecked under another name": "use std::hint::unreachable_unchecked as sum; "
    "if a > b { unsafe { sum() } } a + b }",
    "code that looks like a string": '\nlet _ = stringify!("x"r#""); std::process::exit(a + b); '
    'let _ = stringify!("#"); // "\na + b }',
    "code that looks like a string, after a character": "\nlet _ = stringify!('x'r#\"\"); "
    'unsafe {} let _ = stringify!("#"); // "\na + b }',
    "code that looks like a string, after bytes": '\nlet _ = stringify!(b"x"r#""); '
    'include!("secret"); let _ = stringify!("#"); // "\na + b }',
    "semicolons, then garbage": ";;;;;;;;;;;;;;; ( }",
    "blocks, then garbage": "{}{}{}{}{}{}{} ( }",
    "comments, then garbage": "/* a + b */ // a + b\n ) }",
    "a comment in a comment": "/* /* */ a + b } */",
    "a comment in a comment, around a brace": "/* /* } */ a + b */ todo!() }",
    "a shebang": "#!/bin/sh\na + b }",
    "a file as documentation": '#[doc = include_str!("secret")] fn f() {} a + b }',
    "the environment as documentation": '#[doc = env!("HOME")] fn f() {} a + b }',
    "an allocator": "#[global_allocator] static A: i32 = 0; a + b }",
    "a panic handler": "#[panic_handler] fn p() {} a + b }",
    "a name of the tests": "fn r#__trainer_cases() {} a + b }",
    "the caller": "core::panic::Location::caller().line() as i32 + a + b }",
    "the arguments of the process": "let _ = std::env::args().next(); a + b }",
    "the process in /proc": 'let m = std::fs::read("/proc/self/maps"); a + b }',
    "descriptors": "use std::os::fd::AsFd; a + b }",
    "a panic that is caught": "std::panic::catch_unwind(|| 1).unwrap() + a + b }",
    "exit by its full path": "::std::process::exit(a + b) }",
    "exit in nested lists": "use std::{io, process::{self, exit}}; exit(a + b) }",
    "exit from a glob": "use std::process::*; exit(a + b) }",
}  # fmt: skip
#: Whole programs.
PROGRAMS = {
    "nothing": "",
    "comments": "// fn add\n/* and so on */\n",
    "another function": "pub fn sub(a: i32, b: i32) -> i32 { a - b }",
    "a constant for a function": "pub const add: fn(i32, i32) -> i32 = |a, b| a + b;",
    "an import for a function": "use std::cmp::max as add;",
    "the head alone": "pub fn add(a: i32, b: i32) -> i32 {",
    "an empty body": "pub fn add(a: i32, b: i32) -> i32 {}",
    "arguments said to be unused": "pub fn add(_a: i32, _b: i32) -> i32 { 0 }",
    "a macro makes it": "macro_rules! z { () => { fn add(a: i32, b: i32) -> i32 { a } } }\nz!();",
    "a function that is left out": "#[cfg(any())]\npub fn add(a: i32, b: i32) -> i32 { a + b }",
    "garbage that is left out": "#[cfg(any())] mod x { ! }\nfn add(a: i32, b: i32) -> i32 { a }",
    "no standard library": "#![no_std]\npub fn add(a: i32, b: i32) -> i32 { a + b }",
    "main as a symbol": "#[no_mangle] pub fn main() {}\npub fn add(a: i32, b: i32) -> i32 { a }",
    "a macro for others": "#[macro_export]\nmacro_rules! assert_eq { ($($t:tt)*) => {} }\n"
    "pub fn add(a: i32, b: i32) -> i32 { a }",
    "only tests": "#[cfg(test)]\nmod tests {\n    fn add(a: i32, b: i32) -> i32 { a + b }\n}\n",
    "a standard library of its own": "mod std {}\npub fn add(a: i32, b: i32) -> i32 { a + b }",
    "another function by the name": "mod d { pub fn add(a: i32, b: i32) -> i32 { a + b } }\n"
    "fn go(a: i32, b: i32) -> i32 { loop { let _ = a + b; } }\nuse self::go as add;\n",
    "the other of two functions": "mod d { pub fn add(a: i32, b: i32) -> i32 { a + b } }\n"
    "mod e { pub fn add(a: i32, b: i32) -> i32 { loop { let _ = a + b; } } }\npub use e::add;\n",
    "a constant beside a method": "struct S;\nimpl S { fn add(a: i32, b: i32) -> i32 { a + b } }\n"
    "const add: fn(i32, i32) -> i32 = |a, b| loop { let _ = a + b; };\n",
    "a static beside a function": "mod d { pub fn add(a: i32, b: i32) -> i32 { a + b } }\n"
    "static add: fn(i32, i32) -> i32 = |a, b| panic!();\n",
    "Some of another type": "enum E { Some(i32) }\nuse E::Some;\n"
    "pub fn add(a: i32, b: i32) -> i32 { a - b }\n",
    "None of another type, in a list": "enum E { None }\nuse self::E::{None};\n"
    "pub fn add(a: i32, b: i32) -> i32 { a - b }\n",
    "code for other programs": "#[proc_macro] pub fn add(a: i32, b: i32) -> i32 { a + b }\n",
    "a module like the tests'": "mod __trainer_tests {}\n"
    "pub fn add(a: i32, b: i32) -> i32 { a + b }",
    "an attribute without an item": "pub fn add(a: i32, b: i32) -> i32 { a + b }\n#[cfg(any())]",
    "main that ends the tests": "fn main() { std::process::exit(0) }\n"
    "pub fn add(a: i32, b: i32) -> i32 { a + b }\n",
}

#: Tests that ask the library's types: an answer must not answer for them.
LIST = replace(
    ADD,
    id="list",
    prompt="pub fn list(a: i32) -> Result<Vec<i32>, String> {",
    signature="pub fn list(a: i32) -> Result<Vec<i32>, String>",
    tests="assert_eq!(list(2).unwrap().len(), 2);\nassert!(list(-1).is_err());\n"
    "assert_eq!(list(1).ok().and_then(|v| v.first().copied()), Some(0));",
    reference=" if a < 0 { Err(String::new()) } else { Ok((0..a).collect()) } }",
)
ANSWERS_FOR = {
    "len": "Ok(vec![a]) } trait L { fn len(self) -> usize; } "
    "impl L for Vec<i32> { fn len(self) -> usize { 2 } }",
    "is_err of anything": "Ok(vec![a]) } "
    "trait L: Sized { fn r#is_err(self) -> bool { true } } impl<T> L for T {}",
    "Some": "Ok(vec![a]) } #[derive(Debug)] enum E { Some(i32) } use E::Some; "
    "impl PartialEq<E> for Option<i32> { fn eq(&self, _: &E) -> bool { true } }",
    "Vec": "Ok(Vec) } #[derive(Debug)] struct Vec;",
    "Option's ==": "Ok(vec![a]) } mod m { pub fn Some(x: i32) -> Yes { Yes } } use m::Some;",
}


def test_every_known_hack_is_worth_nothing(rust_judge: Rust) -> None:
    whole = replace(ADD, prompt="")
    answers = {f"completion: {name}": Answer(ADD, text) for name, text in COMPLETIONS.items()}
    answers |= {f"program: {name}": Answer(whole, text) for name, text in PROGRAMS.items()}
    answers |= {f"library: {name}": Answer(LIST, text) for name, text in ANSWERS_FOR.items()}
    verdicts = rust_judge.judge(list(answers.values()))
    paid = {
        name: (verdict.reward, verdict.messages)
        for name, verdict in zip(answers, verdicts, strict=True)
        if verdict.reward > 0 or verdict.parsed or verdict.compiled
    }
    assert paid == {}


#: What looks like one of them and is not.
HONEST = {
    "panic on one way": 'match a.checked_add(b) { Some(v) => v, None => panic!("overflow") } }',
    "panic in a closure that may be called": 'Some(a).map(|x| if x > 9999 { panic!() } else { x })'
    '.unwrap_or_else(|| panic!("none")) + b }',
    "a macro that computes": 'let v = vec![a, b]; assert!(!v.is_empty(), "{v:?}"); v[0] + v[1] }',
    "an iterator of its own": "struct It(i32); impl Iterator for It { type Item = i32; "
    "fn next(&mut self) -> Option<i32> { self.0 += 1; Some(self.0) } } "
    "let mut it = It(a - 1); it.next().map(|x| x + b).unwrap() }",
    "a call that is passed on": "struct S(String); "
    "impl S { fn len(&self) -> usize { self.0.len() } } "
    "impl std::fmt::Display for S { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> "
    "std::fmt::Result { self.0.fmt(f) } } let s = S(a.to_string()); let n = s.len() as i32; "
    "format!(\"{s}\").parse::<i32>().unwrap() + b + n - n }",
    "a trait of its own": "trait Twice { fn twice(&self) -> i32; } "
    "impl Twice for i32 { fn twice(&self) -> i32 { self * 2 } } (a.twice() + b.twice()) / 2 }",
    "a method that calls itself": "struct N(Option<Box<N>>, i32); impl N { fn sum(&self) -> i32 "
    "{ self.1 + self.0.as_ref().map_or(0, |n| n.sum()) } } "
    "let n = N(Some(Box::new(N(None, b))), a); n.sum() }",
    "a loop that ends": "let mut n = a; while n != a { n += 1; } "
    "loop { if n >= a { break n + b; } } }",
}  # fmt: skip


def test_what_only_looks_like_a_hack_is_worth_everything(rust_judge: Rust) -> None:
    verdicts = rust_judge.judge([Answer(ADD, text) for text in HONEST.values()])
    found = dict(zip(HONEST, verdicts, strict=True))
    assert {n: v.messages for n, v in found.items() if not (v.compiled and v.tested)} == {}


def test_hacks_in_files_are_worth_nothing(rust_judge: Rust) -> None:
    texts = [*COMPLETIONS.values(), *PROGRAMS.values()]
    verdicts = rust_judge.judge([answer_of(text, ADD) for text in texts])
    paid = [text for text, verdict in zip(texts, verdicts, strict=True) if verdict.reward > 0]
    assert paid == []
