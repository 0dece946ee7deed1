//! The table's contents: invented entries of lighthouse logs, each generated from its number alone.

const PLACES: [&str; 16] = [
    "Skerry Light",
    "Gannet Rock",
    "North Foreland",
    "Holm Sands",
    "Raven Point",
    "Cape Sorrow",
    "Bell Reef",
    "Long Strand",
    "Oyster Bank",
    "Saint Brendan",
    "Black Head",
    "Inner Carr",
    "Outer Carr",
    "Mewstone",
    "Eider Ness",
    "Old Harry",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WINDS: [&str; 8] = [
    "north",
    "north-east",
    "east",
    "south-east",
    "south",
    "south-west",
    "west",
    "north-west",
];
const SEAS: [&str; 8] = [
    "calm",
    "smooth",
    "slight",
    "moderate",
    "rough",
    "very rough",
    "high",
    "confused",
];
const KEEPERS: [&str; 16] = [
    "Anna Sinclair",
    "Tom Baird",
    "Ewan Muir",
    "Ida Lund",
    "Jean Kerr",
    "Olaf Strand",
    "Mary Quill",
    "Per Holm",
    "Rose Tulloch",
    "Hugh Garrick",
    "Nora Flett",
    "Jan de Wit",
    "Elsie Rae",
    "Colin Marwick",
    "Greta Voss",
    "Magnus Linklater",
];
const KINDS: [&str; 12] = [
    "barque", "brig", "cutter", "ketch", "lugger", "schooner", "sloop", "smack", "steamer",
    "tender", "trawler", "yawl",
];
const SHIPS: [&str; 16] = [
    "Morning Star",
    "Good Intent",
    "Halcyon",
    "Perseverance",
    "Three Brothers",
    "Maid of Lorn",
    "Albatross",
    "Concordia",
    "Emerald",
    "Fortuna",
    "Guiding Star",
    "Providence",
    "Sea Flower",
    "True Blue",
    "Undine",
    "Wanderer",
];
const PORTS: [&str; 16] = [
    "Bergen",
    "Leith",
    "Bristol",
    "Cadiz",
    "Danzig",
    "Dublin",
    "Gothenburg",
    "Hamburg",
    "Hull",
    "Lerwick",
    "Lisbon",
    "Riga",
    "Rotterdam",
    "Stavanger",
    "Tromso",
    "Wick",
];
const CARGOES: [&str; 12] = [
    "barley", "coal", "cork", "herring", "iron", "lamp oil", "oranges", "salt", "slate", "tar",
    "timber", "wool",
];
const REMARKS: [&str; 12] = [
    "Lantern cleaned and trimmed",
    "Fog signal sounded for three hours",
    "Oil for nine days left",
    "Boat could not land",
    "Clockwork oiled",
    "Two panes of the lantern cracked",
    "Gannets in great number",
    "A rocket was seen to seaward",
    "Relief keeper came ashore",
    "Mercury floated anew",
    "Supplies landed at low water",
    "Nothing further to remark",
];

/// Returns the heading and the text of an entry.
pub(super) fn entry(number: u32) -> (String, String) {
    let mut dice = Dice(u64::from(number));
    let heading = format!(
        "{}, {} {} {}",
        dice.one_of(&PLACES),
        1 + dice.below(28),
        dice.one_of(&MONTHS),
        1790 + dice.below(180),
    );
    let text = format!(
        "Wind {}, force {}, sea {}. Keeper {} saw the {} {} bound for {} with {}. {}.",
        dice.one_of(&WINDS),
        1 + dice.below(11),
        dice.one_of(&SEAS),
        dice.one_of(&KEEPERS),
        dice.one_of(&KINDS),
        dice.one_of(&SHIPS),
        dice.one_of(&PORTS),
        dice.one_of(&CARGOES),
        dice.one_of(&REMARKS),
    );
    (heading, text)
}

/// SplitMix64: the same sequence for the same number, on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_the_same_every_time_and_unlike_its_neighbour() {
        assert_eq!(entry(7), entry(7));
        assert_ne!(entry(7), entry(8));
        let (heading, text) = entry(1);
        assert!(
            heading.contains(", ") && text.starts_with("Wind "),
            "{heading}: {text}"
        );
    }
}
