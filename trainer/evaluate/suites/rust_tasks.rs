// The tasks of the suite `rust`. Each has a name, what the model is given, an answer that solves it,
// and the statements of a test. This file is read by rust_tasks.py; it is not compiled as it is.

//: task word_counts
use std::collections::BTreeMap;

/// Counts how often each word of `text` occurs. Words are separated by white space, and upper and
/// lower case are the same.
pub fn word_counts(text: &str) -> BTreeMap<String, usize> {
//: answer
    let mut counts = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    counts
}
//: tests
let counts = word_counts("The cat saw the dog\nthe end");
assert_eq!(counts["the"], 3);
assert_eq!(counts["dog"], 1);
assert_eq!(counts.len(), 5);
assert!(word_counts("  \n").is_empty());

//: task mean_and_spread
/// The mean of `values` and their population standard deviation; `None` if there are no values.
pub fn mean_and_spread(values: &[f64]) -> Option<(f64, f64)> {
//: answer
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    Some((mean, variance.sqrt()))
}
//: tests
assert_eq!(mean_and_spread(&[]), None);
assert_eq!(mean_and_spread(&[2.0, 4.0]), Some((3.0, 1.0)));
assert_eq!(mean_and_spread(&[5.0]), Some((5.0, 0.0)));

//: task parse_key_values
use std::collections::HashMap;

/// Reads lines such as `name = value` into a map. Blank lines and lines that begin with `#` are
/// skipped; keys and values are trimmed. The first line without `=` is returned as the error.
pub fn parse_key_values(text: &str) -> Result<HashMap<String, String>, String> {
//: answer
    let mut found = HashMap::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| line.to_string())?;
        found.insert(key.trim().to_string(), value.trim().to_string());
    }
    Ok(found)
}
//: tests
let found = parse_key_values("# sizes\nwidth = 4\n\n height=5 \n").unwrap();
assert_eq!(found["width"], "4");
assert_eq!(found["height"], "5");
assert_eq!(found.len(), 2);
assert_eq!(parse_key_values("a=1\nnothing"), Err("nothing".to_string()));

//: task run_lengths
/// Describes `text` by its runs: each character with how often it comes in a row.
pub fn run_lengths(text: &str) -> Vec<(char, usize)> {
//: answer
    let mut runs: Vec<(char, usize)> = Vec::new();
    for c in text.chars() {
        match runs.last_mut() {
            Some((last, count)) if *last == c => *count += 1,
            _ => runs.push((c, 1)),
        }
    }
    runs
}
//: tests
assert_eq!(run_lengths("aaabccd"), vec![('a', 3), ('b', 1), ('c', 2), ('d', 1)]);
assert_eq!(run_lengths(""), vec![]);
assert_eq!(run_lengths("éé"), vec![('é', 2)]);

//: task merge_sorted
/// Merges two sorted slices into one sorted vector, in linear time.
pub fn merge_sorted(left: &[i32], right: &[i32]) -> Vec<i32> {
//: answer
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if left[i] <= right[j] {
            merged.push(left[i]);
            i += 1;
        } else {
            merged.push(right[j]);
            j += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    merged
}
//: tests
assert_eq!(merge_sorted(&[1, 4, 9], &[2, 4, 5]), vec![1, 2, 4, 4, 5, 9]);
assert_eq!(merge_sorted(&[], &[3]), vec![3]);
assert_eq!(merge_sorted(&[-2], &[]), vec![-2]);

//: task binary_search
/// The index of `wanted` in the sorted slice `values`, found in logarithmic time.
pub fn index_in_sorted<T: Ord>(values: &[T], wanted: &T) -> Option<usize> {
//: answer
    let (mut low, mut high) = (0, values.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match values[middle].cmp(wanted) {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}
//: tests
assert_eq!(index_in_sorted(&[1, 3, 5, 8], &5), Some(2));
assert_eq!(index_in_sorted(&[1, 3, 5, 8], &4), None);
assert_eq!(index_in_sorted(&["ant", "bee"], &"ant"), Some(0));
assert_eq!(index_in_sorted::<u8>(&[], &1), None);

//: task transpose
/// Turns the rows of a rectangular matrix into its columns. `None` if the rows differ in length.
pub fn transpose(rows: &[Vec<i64>]) -> Option<Vec<Vec<i64>>> {
//: answer
    let width = rows.first().map_or(0, Vec::len);
    if rows.iter().any(|row| row.len() != width) {
        return None;
    }
    Some((0..width).map(|column| rows.iter().map(|row| row[column]).collect()).collect())
}
//: tests
assert_eq!(transpose(&[vec![1, 2, 3], vec![4, 5, 6]]), Some(vec![vec![1, 4], vec![2, 5], vec![3, 6]]));
assert_eq!(transpose(&[vec![1], vec![2, 3]]), None);
assert_eq!(transpose(&[]), Some(vec![]));

//: task balanced
/// Whether every bracket in `text`, of `()`, `[]` and `{}`, is closed in the right order. Other
/// characters do not matter.
pub fn is_balanced(text: &str) -> bool {
//: answer
    let mut open = Vec::new();
    for c in text.chars() {
        match c {
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' => {
                if open.pop() != Some(c) {
                    return false;
                }
            }
            _ => {}
        }
    }
    open.is_empty()
}
//: tests
assert!(is_balanced("f(a[1], {b})"));
assert!(!is_balanced("(]"));
assert!(!is_balanced("(("));
assert!(!is_balanced("())"));
assert!(is_balanced("none"));

//: task roman_value
/// The number that a Roman numeral in capital letters stands for, such as 14 for `XIV`. `None` for
/// other characters, and for an empty text.
pub fn roman_value(numeral: &str) -> Option<u32> {
//: answer
    let values = numeral
        .chars()
        .map(|c| match c {
            'I' => Some(1),
            'V' => Some(5),
            'X' => Some(10),
            'L' => Some(50),
            'C' => Some(100),
            'D' => Some(500),
            'M' => Some(1000),
            _ => None,
        })
        .collect::<Option<Vec<i64>>>()?;
    let mut total = 0;
    for (place, &value) in values.iter().enumerate() {
        let next = values.get(place + 1).copied().unwrap_or(0);
        total += if value < next { -value } else { value };
    }
    u32::try_from(total).ok().filter(|&total| total > 0)
}
//: tests
assert_eq!(roman_value("XIV"), Some(14));
assert_eq!(roman_value("MCMXC"), Some(1990));
assert_eq!(roman_value("III"), Some(3));
assert_eq!(roman_value("xiv"), None);
assert_eq!(roman_value(""), None);

//: task primes_below
/// All primes below `limit`, in order, by the sieve of Eratosthenes.
pub fn primes_below(limit: usize) -> Vec<usize> {
//: answer
    let mut is_prime = vec![true; limit];
    let mut primes = Vec::new();
    for number in 2..limit {
        if is_prime[number] {
            primes.push(number);
            for multiple in (number * number..limit).step_by(number) {
                is_prime[multiple] = false;
            }
        }
    }
    primes
}
//: tests
assert_eq!(primes_below(20), vec![2, 3, 5, 7, 11, 13, 17, 19]);
assert_eq!(primes_below(2), vec![]);
assert_eq!(primes_below(0), vec![]);
assert_eq!(primes_below(3), vec![2]);

//: task parse_duration
/// The seconds in a duration such as `1h30m`, `45s` or `2h5s`: hours, minutes and seconds, each with
/// its letter. An error says what is wrong.
pub fn parse_duration(text: &str) -> Result<u64, String> {
//: answer
    let mut total = 0;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(format!("unknown unit {c:?}")),
        };
        let number: u64 = digits.parse().map_err(|_| format!("no number before {c:?}"))?;
        total += number * unit;
        digits.clear();
    }
    if !digits.is_empty() || text.is_empty() {
        return Err("a unit is missing".to_string());
    }
    Ok(total)
}
//: tests
assert_eq!(parse_duration("1h30m"), Ok(5400));
assert_eq!(parse_duration("45s"), Ok(45));
assert_eq!(parse_duration("2h5s"), Ok(7205));
assert!(parse_duration("12").is_err());
assert!(parse_duration("m").is_err());
assert!(parse_duration("3d").is_err());
assert!(parse_duration("").is_err());

//: task group_by_length
use std::collections::BTreeMap;

/// The words by their number of characters, each group in the order of `words`.
pub fn group_by_length<'a>(words: &[&'a str]) -> BTreeMap<usize, Vec<&'a str>> {
//: answer
    let mut groups: BTreeMap<usize, Vec<&'a str>> = BTreeMap::new();
    for word in words {
        groups.entry(word.chars().count()).or_default().push(word);
    }
    groups
}
//: tests
let groups = group_by_length(&["to", "bee", "né", "ant"]);
assert_eq!(groups[&2], vec!["to", "né"]);
assert_eq!(groups[&3], vec!["bee", "ant"]);
assert_eq!(groups.len(), 2);

//: task longest_common_prefix
/// The longest text with which all of `words` begin; empty if there are none.
pub fn longest_common_prefix(words: &[&str]) -> String {
//: answer
    let Some((first, rest)) = words.split_first() else {
        return String::new();
    };
    let mut length = first.len();
    for word in rest {
        length = first
            .char_indices()
            .zip(word.chars())
            .find(|((_, a), b)| a != b)
            .map_or(first.len().min(word.len()), |((place, _), _)| place)
            .min(length);
    }
    first[..length].to_string()
}
//: tests
assert_eq!(longest_common_prefix(&["flower", "flow", "flight"]), "fl");
assert_eq!(longest_common_prefix(&["dog", "car"]), "");
assert_eq!(longest_common_prefix(&["same", "same"]), "same");
assert_eq!(longest_common_prefix(&[]), "");

//: task evaluate_postfix
/// The value of an expression in postfix notation, such as `3 4 + 2 *`, with `+`, `-`, `*` and `/` on
/// whole numbers. `None` for anything that is not one expression, and for a division by zero.
pub fn evaluate_postfix(expression: &str) -> Option<i64> {
//: answer
    let mut stack: Vec<i64> = Vec::new();
    for token in expression.split_whitespace() {
        if let Ok(number) = token.parse() {
            stack.push(number);
            continue;
        }
        let right = stack.pop()?;
        let left = stack.pop()?;
        stack.push(match token {
            "+" => left.checked_add(right)?,
            "-" => left.checked_sub(right)?,
            "*" => left.checked_mul(right)?,
            "/" => left.checked_div(right)?,
            _ => return None,
        });
    }
    if stack.len() == 1 { stack.pop() } else { None }
}
//: tests
assert_eq!(evaluate_postfix("3 4 + 2 *"), Some(14));
assert_eq!(evaluate_postfix("10 2 8 * + 3 -"), Some(23));
assert_eq!(evaluate_postfix("1 0 /"), None);
assert_eq!(evaluate_postfix("1 2"), None);
assert_eq!(evaluate_postfix("+"), None);
assert_eq!(evaluate_postfix(""), None);

//: task rotate_in_place
/// Moves every element of `items` `by` places to the left, in place; those that fall off come back at
/// the end.
pub fn rotate_left_in_place<T>(items: &mut [T], by: usize) {
//: answer
    if items.is_empty() {
        return;
    }
    let by = by % items.len();
    items[..by].reverse();
    items[by..].reverse();
    items.reverse();
}
//: tests
let mut items = vec![1, 2, 3, 4, 5];
rotate_left_in_place(&mut items, 2);
assert_eq!(items, vec![3, 4, 5, 1, 2]);
rotate_left_in_place(&mut items, 5);
assert_eq!(items, vec![3, 4, 5, 1, 2]);
let mut nothing: Vec<u8> = vec![];
rotate_left_in_place(&mut nothing, 3);
assert!(nothing.is_empty());

//: task top_scores
/// The names with the `count` highest scores, best first; equal scores are ordered by name.
pub fn top_scores(scores: &[(String, u32)], count: usize) -> Vec<String> {
//: answer
    let mut ordered: Vec<&(String, u32)> = scores.iter().collect();
    ordered.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ordered.into_iter().take(count).map(|(name, _)| name.clone()).collect()
}
//: tests
let scores = vec![("ada".to_string(), 3), ("eve".to_string(), 9), ("bob".to_string(), 3)];
assert_eq!(top_scores(&scores, 2), vec!["eve", "ada"]);
assert_eq!(top_scores(&scores, 9).len(), 3);
assert!(top_scores(&[], 1).is_empty());

//: task shape_area
/// A shape in the plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Circle { radius: f64 },
    Rectangle { width: f64, height: f64 },
    Triangle { base: f64, height: f64 },
}

/// The area of a shape.
pub fn area(shape: &Shape) -> f64 {
//: answer
    match shape {
        Shape::Circle { radius } => std::f64::consts::PI * radius * radius,
        Shape::Rectangle { width, height } => width * height,
        Shape::Triangle { base, height } => base * height / 2.0,
    }
}
//: tests
assert_eq!(area(&Shape::Rectangle { width: 2.0, height: 3.5 }), 7.0);
assert_eq!(area(&Shape::Triangle { base: 4.0, height: 3.0 }), 6.0);
assert!((area(&Shape::Circle { radius: 1.0 }) - 3.14159).abs() < 1e-4);

//: task tree_depth
/// A binary tree of numbers.
pub enum Tree {
    Leaf,
    Node(Box<Tree>, i32, Box<Tree>),
}

/// The number of nodes on the longest way from the root down; 0 for a leaf.
pub fn depth(tree: &Tree) -> usize {
//: answer
    match tree {
        Tree::Leaf => 0,
        Tree::Node(left, _, right) => 1 + depth(left).max(depth(right)),
    }
}
//: tests
let leaf = || Box::new(Tree::Leaf);
let one = Tree::Node(leaf(), 1, leaf());
assert_eq!(depth(&Tree::Leaf), 0);
assert_eq!(depth(&one), 1);
assert_eq!(depth(&Tree::Node(Box::new(Tree::Node(leaf(), 2, Box::new(one))), 3, leaf())), 3);

//: task stack
/// A stack of numbers. It has `new()`, `push(&mut self, value: i64)`, `pop(&mut self) -> Option<i64>`,
/// which takes the newest number, `peek(&self) -> Option<i64>` and `len(&self) -> usize`.
pub struct Stack {
    items: Vec<i64>,
}

impl Stack {
//: answer
    /// An empty stack.
    pub fn new() -> Self {
        Self { items: Vec::new() }
    }

    /// Puts a number on top.
    pub fn push(&mut self, value: i64) {
        self.items.push(value);
    }

    /// Takes the newest number.
    pub fn pop(&mut self) -> Option<i64> {
        self.items.pop()
    }

    /// The newest number.
    pub fn peek(&self) -> Option<i64> {
        self.items.last().copied()
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }
}
//: tests
let mut stack = Stack::new();
assert_eq!(stack.pop(), None);
stack.push(4);
stack.push(7);
assert_eq!(stack.peek(), Some(7));
assert_eq!(stack.len(), 2);
assert_eq!(stack.pop(), Some(7));
assert_eq!(stack.pop(), Some(4));
assert_eq!(stack.len(), 0);

//: task account
/// A bank account in cents. It has `new()`, `deposit(&mut self, cents: u64)`,
/// `withdraw(&mut self, cents: u64) -> Result<(), String>`, which fails and changes nothing if there
/// is too little, and `balance(&self) -> u64`.
pub struct Account {
    cents: u64,
}

impl Account {
//: answer
    /// An account without money.
    pub fn new() -> Self {
        Self { cents: 0 }
    }

    /// Adds money.
    pub fn deposit(&mut self, cents: u64) {
        self.cents += cents;
    }

    /// Takes money, if there is enough.
    pub fn withdraw(&mut self, cents: u64) -> Result<(), String> {
        let left = self.cents.checked_sub(cents);
        self.cents = left.ok_or_else(|| format!("{cents} is more than {}", self.cents))?;
        Ok(())
    }

    /// How much there is.
    pub fn balance(&self) -> u64 {
        self.cents
    }
}
//: tests
let mut account = Account::new();
account.deposit(500);
assert_eq!(account.withdraw(200), Ok(()));
assert!(account.withdraw(301).is_err());
assert_eq!(account.balance(), 300);

//: task rectangle
/// A rectangle with whole sides. It has `new(width: u32, height: u32)`, `area(&self) -> u32`,
/// `is_square(&self) -> bool` and `contains(&self, other: &Rectangle) -> bool`, which tells whether
/// `other` fits into it without being turned.
#[derive(Debug, Clone, PartialEq)]
pub struct Rectangle {
    width: u32,
    height: u32,
}

impl Rectangle {
//: answer
    /// A rectangle with these sides.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Width times height.
    pub fn area(&self) -> u32 {
        self.width * self.height
    }

    /// Whether both sides are equal.
    pub fn is_square(&self) -> bool {
        self.width == self.height
    }

    /// Whether `other` fits into it.
    pub fn contains(&self, other: &Rectangle) -> bool {
        other.width <= self.width && other.height <= self.height
    }
}
//: tests
let large = Rectangle::new(4, 6);
assert_eq!(large.area(), 24);
assert!(!large.is_square());
assert!(Rectangle::new(3, 3).is_square());
assert!(large.contains(&Rectangle::new(4, 5)));
assert!(!large.contains(&Rectangle::new(6, 4)));

//: task counter
use std::collections::HashMap;

/// Counts names. It has `new()`, `add(&mut self, name: &str)`, `count(&self, name: &str) -> usize` and
/// `most_common(&self) -> Option<String>`, the name that came most often; of equal ones the first in
/// the alphabet.
pub struct Counter {
    counts: HashMap<String, usize>,
}

impl Counter {
//: answer
    /// A counter of nothing yet.
    pub fn new() -> Self {
        Self { counts: HashMap::new() }
    }

    /// Counts a name once more.
    pub fn add(&mut self, name: &str) {
        *self.counts.entry(name.to_string()).or_insert(0) += 1;
    }

    /// How often a name came.
    pub fn count(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// The name that came most often.
    pub fn most_common(&self) -> Option<String> {
        self.counts
            .iter()
            .max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)))
            .map(|(name, _)| name.clone())
    }
}
//: tests
let mut counter = Counter::new();
assert_eq!(counter.most_common(), None);
for name in ["eve", "bob", "eve", "bob", "ada"] {
    counter.add(name);
}
assert_eq!(counter.count("eve"), 2);
assert_eq!(counter.count("zoe"), 0);
assert_eq!(counter.most_common(), Some("bob".to_string()));

//: task matrix
/// A matrix of numbers, row by row. It has `new(rows: usize, columns: usize)`, full of zeros,
/// `get(&self, row: usize, column: usize) -> Option<f64>`,
/// `set(&mut self, row: usize, column: usize, value: f64) -> Result<(), String>`, an error outside it,
/// and `row_sum(&self, row: usize) -> Option<f64>`.
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
//: answer
    /// A matrix of zeros.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![0.0; rows * columns] }
    }

    /// The number at a place.
    pub fn get(&self, row: usize, column: usize) -> Option<f64> {
        self.place(row, column).map(|place| self.values[place])
    }

    /// Replaces the number at a place.
    pub fn set(&mut self, row: usize, column: usize, value: f64) -> Result<(), String> {
        let place = self.place(row, column).ok_or_else(|| format!("no place {row}, {column}"))?;
        self.values[place] = value;
        Ok(())
    }

    /// The sum of a row.
    pub fn row_sum(&self, row: usize) -> Option<f64> {
        let first = (row < self.rows).then_some(row * self.columns)?;
        Some(self.values[first..first + self.columns].iter().sum())
    }

    /// Where a number is kept.
    fn place(&self, row: usize, column: usize) -> Option<usize> {
        (row < self.rows && column < self.columns).then_some(row * self.columns + column)
    }
}
//: tests
let mut matrix = Matrix::new(2, 3);
assert_eq!(matrix.get(1, 2), Some(0.0));
assert_eq!(matrix.get(2, 0), None);
assert_eq!(matrix.set(1, 0, 2.5), Ok(()));
assert_eq!(matrix.set(1, 2, 1.5), Ok(()));
assert!(matrix.set(0, 3, 1.0).is_err());
assert_eq!(matrix.row_sum(1), Some(4.0));
assert_eq!(matrix.row_sum(2), None);

//: task queue_of_two_stacks
/// A first-in, first-out queue made of two stacks. It has `new()`, `enqueue(&mut self, item: T)`,
/// `dequeue(&mut self) -> Option<T>`, which takes the oldest item, and `is_empty(&self) -> bool`.
pub struct Queue<T> {
    incoming: Vec<T>,
    outgoing: Vec<T>,
}

impl<T> Queue<T> {
//: answer
    /// An empty queue.
    pub fn new() -> Self {
        Self { incoming: Vec::new(), outgoing: Vec::new() }
    }

    /// Adds an item at the end.
    pub fn enqueue(&mut self, item: T) {
        self.incoming.push(item);
    }

    /// Takes the oldest item.
    pub fn dequeue(&mut self) -> Option<T> {
        if self.outgoing.is_empty() {
            while let Some(item) = self.incoming.pop() {
                self.outgoing.push(item);
            }
        }
        self.outgoing.pop()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.incoming.is_empty() && self.outgoing.is_empty()
    }
}
//: tests
let mut queue = Queue::new();
queue.enqueue('a');
queue.enqueue('b');
assert_eq!(queue.dequeue(), Some('a'));
queue.enqueue('c');
assert_eq!(queue.dequeue(), Some('b'));
assert_eq!(queue.dequeue(), Some('c'));
assert_eq!(queue.dequeue(), None);
assert!(queue.is_empty());

//: task temperature
/// A temperature in degrees Celsius. It has `from_fahrenheit(degrees: f64)`, `celsius(&self) -> f64`,
/// `fahrenheit(&self) -> f64` and `is_freezing(&self) -> bool`, at 0 degrees Celsius or below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    pub degrees: f64,
}

impl Temperature {
//: answer
    /// From degrees Fahrenheit.
    pub fn from_fahrenheit(degrees: f64) -> Self {
        Self { degrees: (degrees - 32.0) * 5.0 / 9.0 }
    }

    /// In degrees Celsius.
    pub fn celsius(&self) -> f64 {
        self.degrees
    }

    /// In degrees Fahrenheit.
    pub fn fahrenheit(&self) -> f64 {
        self.degrees * 9.0 / 5.0 + 32.0
    }

    /// Whether water freezes.
    pub fn is_freezing(&self) -> bool {
        self.degrees <= 0.0
    }
}
//: tests
assert_eq!(Temperature { degrees: 100.0 }.fahrenheit(), 212.0);
assert_eq!(Temperature::from_fahrenheit(50.0).celsius(), 10.0);
assert!(Temperature::from_fahrenheit(32.0).is_freezing());
assert!(!Temperature { degrees: 0.5 }.is_freezing());

//: task inventory
use std::collections::BTreeMap;

/// What a shop has in stock. It has `new()`, `add(&mut self, item: &str, count: u32)`,
/// `remove(&mut self, item: &str, count: u32) -> Result<u32, String>`, which returns how many are left
/// and fails if there are too few, and `items(&self) -> Vec<&str>`, those in stock in alphabetical
/// order.
#[derive(Default)]
pub struct Inventory {
    stock: BTreeMap<String, u32>,
}

impl Inventory {
//: answer
    /// An empty shop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts items in stock.
    pub fn add(&mut self, item: &str, count: u32) {
        *self.stock.entry(item.to_string()).or_default() += count;
    }

    /// Takes items out of stock.
    pub fn remove(&mut self, item: &str, count: u32) -> Result<u32, String> {
        let have = self.stock.get_mut(item).ok_or_else(|| format!("there is no {item}"))?;
        *have = have.checked_sub(count).ok_or_else(|| format!("there are only {have}"))?;
        Ok(*have)
    }

    /// What is in stock.
    pub fn items(&self) -> Vec<&str> {
        self.stock.iter().filter(|(_, count)| **count > 0).map(|(item, _)| item.as_str()).collect()
    }
}
//: tests
let mut shop = Inventory::new();
shop.add("pear", 3);
shop.add("apple", 1);
assert_eq!(shop.remove("pear", 2), Ok(1));
assert!(shop.remove("pear", 2).is_err());
assert!(shop.remove("plum", 1).is_err());
assert_eq!(shop.items(), vec!["apple", "pear"]);
assert_eq!(shop.remove("apple", 1), Ok(0));
assert_eq!(shop.items(), vec!["pear"]);

//: task linked_list
/// A list of numbers in which each node owns the next.
pub struct Node {
    pub value: i32,
    pub next: Option<Box<Node>>,
}

/// The numbers of a list, in order.
pub fn to_vector(list: Option<&Node>) -> Vec<i32> {
//: answer
    let mut values = Vec::new();
    let mut current = list;
    while let Some(node) = current {
        values.push(node.value);
        current = node.next.as_deref();
    }
    values
}
//: tests
let list = Node { value: 1, next: Some(Box::new(Node { value: 2, next: None })) };
assert_eq!(to_vector(Some(&list)), vec![1, 2]);
assert_eq!(to_vector(None), vec![]);

//: task caesar
/// Shifts every letter of the Latin alphabet by `by` places, around its end; case and other characters
/// stay.
pub fn shift_letters(text: &str, by: u8) -> String {
//: answer
    let shifted = |c: char, first: u8| {
        let place = (u32::from(c) as u8 - first + by % 26) % 26;
        char::from(first + place)
    };
    text.chars()
        .map(|c| match c {
            'a'..='z' => shifted(c, b'a'),
            'A'..='Z' => shifted(c, b'A'),
            _ => c,
        })
        .collect()
}
//: tests
assert_eq!(shift_letters("Abz, xyz!", 2), "Cdb, zab!");
assert_eq!(shift_letters("same", 26), "same");
assert_eq!(shift_letters("é1", 5), "é1");

//: task sum_of_digits
/// The sum of the decimal digits in `text`; the first other character is the error.
pub fn sum_of_digits(text: &str) -> Result<u32, char> {
//: answer
    text.chars().map(|c| c.to_digit(10).ok_or(c)).sum()
}
//: tests
assert_eq!(sum_of_digits("1203"), Ok(6));
assert_eq!(sum_of_digits(""), Ok(0));
assert_eq!(sum_of_digits("12a4b"), Err('a'));

//: task windows_maximum
/// The largest number of each window of `size` neighbours. Empty if `size` is 0 or larger than the
/// slice.
pub fn window_maxima(values: &[i32], size: usize) -> Vec<i32> {
//: answer
    if size == 0 {
        return Vec::new();
    }
    values.windows(size).filter_map(|window| window.iter().max().copied()).collect()
}
//: tests
assert_eq!(window_maxima(&[1, 3, -1, 5, 2], 2), vec![3, 3, 5, 5]);
assert_eq!(window_maxima(&[4], 1), vec![4]);
assert!(window_maxima(&[1, 2], 3).is_empty());
assert!(window_maxima(&[1, 2], 0).is_empty());
