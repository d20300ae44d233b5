"""Questions with known answers from encyclopaedia articles, by rule and always the same. Two kinds: facts, whose question is
worded otherwise than the text ("Who wrote X?" of "X was written by Y"; who, when, where, how large), and dates, which are asked
for with the article's title and four of the sentence's words, the rarest. Each has its sentence, and an answer in it."""
import collections
import re

CAP = r"(?:[A-Z][\w'’.-]*|[0-9]{1,2}(?:st|nd|rd|th))"
NAME = rf"{CAP}(?: (?:{CAP}|of|the|de|van|von|and|&|in))* ?{CAP}|{CAP}"
ONE = rf"({CAP}(?: (?:{CAP}|of|the|de|van|von))*)"
PAST = {"written": "wrote", "directed": "directed", "produced": "produced", "designed": "designed", "composed": "composed",
        "founded": "founded", "discovered": "discovered", "built": "built", "published": "published", "developed": "developed",
        "painted": "painted", "commissioned": "commissioned", "led": "led", "commanded": "commanded", "played": "played",
        "portrayed": "portrayed", "edited": "edited", "recorded": "recorded", "created": "created", "organized": "organized",
        "illustrated": "illustrated", "described": "described", "owned": "owned", "sponsored": "sponsored", "captured": "captured",
        "defeated": "defeated", "killed": "killed", "conducted": "conducted", "presented": "presented", "reviewed": "reviewed"}
MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
DATE = rf"(?:[0-9]{{1,2}} {MONTH} [0-9]{{4}}|{MONTH} [0-9]{{1,2}} , [0-9]{{4}}|{MONTH} [0-9]{{4}}|[12][0-9]{{3}})"
EVENT = ("released|published|born|founded|launched|completed|built|established|opened|elected|appointed|commissioned|"
         "laid down|killed|formed|introduced|closed|demolished|ordered|created|discovered|recorded|signed|buried|destroyed|"
         "sunk|decommissioned|abandoned|broadcast|held|named|designed|renamed|captured|promoted|executed|arrested")
DID = {"died": "die", "retired": "retire", "married": "marry", "premiered": "premiere", "debuted": "debut", "opened": "open",
       "joined": "join", "left": "leave", "moved": "move", "began": "begin", "ended": "end", "entered": "enter", "won": "win",
       "returned": "return", "graduated": "graduate", "arrived": "arrive", "resigned": "resign", "became": "become"}
SIZE = "population|length|height|wingspan|depth|range|area|crew|displacement|speed|diameter|weight|width|budget|elevation"
SKIP = {"He", "She", "It", "They", "This", "The", "In", "A", "An", "These", "Those", "His", "Her", "On", "At", "There", "We", "I",
        "Its", "Their", "As", "By", "After", "When", "Both", "Who", "That", "Also", "Each", "One", "Some", "Most", "All"}


def rules():
    yield rf"{ONE} (?:, |was |is |were |had been )*({'|'.join(PAST)}) by {ONE}", lambda m: (f"Who {PAST[m[2]]} {m[1]}?", m[3])
    yield rf"{ONE} (?:was|were) (?:first |officially |finally )?({EVENT}) (?:on|in) ({DATE})", lambda m: (f"When was {m[1]} {m[2]}?", m[3])
    yield rf"{ONE} ({'|'.join(DID)}) (?:the \w+ |to \w+ |from \w+ |at \w+ )?(?:on|in) ({DATE})", lambda m: (f"When did {m[1]} {DID[m[2]]}?", m[3])
    yield rf"({SIZE}) of (?:about |approximately |around |up to |over |nearly )?([0-9][0-9 ,.@]* ?\w+)", lambda m: (None, m[1], m[2])
    yield rf"{ONE} (?:is|was) (?:located|situated|held|based) (?:in|at|on) (?:the )?{ONE}", lambda m: (f"Where is {m[1]} located?", m[2])
    yield rf"{ONE} (?:was|is|were) named after (?:the )?{ONE}", lambda m: (f"After whom was {m[1]} named?", m[2])


def questions(title, body):
    """Of an article: dictionaries with question, answer, sentence."""
    out, seen = [], set()
    for sentence in re.split(r"(?<= [.!?]) (?=[A-Z\"])|\n", body):
        sentence = sentence.strip()
        for number, (pattern, make) in enumerate(list(rules())):
            for m in re.finditer(pattern, sentence):
                made = make(m)
                if made[0] is None:
                    made = (f"What is the {made[1]} of {title}?", made[2].strip())
                    subject = title
                else:
                    subject = m[1]
                if subject.split()[0] in SKIP or subject in ("May",) or len(subject) < 4 or made[0] in seen:
                    continue
                # A family name or a part of one says too little by itself.
                question = made[0] if title in made[0] or len(subject.split()) > 1 else f"{made[0][:-1]}, in \"{title}\"?"
                seen.add(made[0])
                out.append({"title": title, "question": question, "answer": made[1].strip(" ,"), "sentence": sentence})
    return out


def dates(title, body, rare):
    """The same, of sentences with one date. rare: in how many articles a word is."""
    out = []
    for sentence in re.split(r"(?<= [.!?]) (?=[A-Z\"])|\n", body):
        found = re.findall(DATE, sentence)
        if len(found) != 1 or not 40 < len(sentence) < 300:
            continue
        words = [w for w in re.findall(r"[A-Za-z]{4,}", sentence.replace(found[0], " ")) if w not in title and w.lower() in rare]
        words = sorted(set(words), key=lambda w: (rare[w.lower()], w))[:4]
        if len(words) == 4:
            told = sorted(words, key=sentence.index)
            out.append({"title": title, "question": f"When was that, in \"{title}\": {' '.join(told)}?", "answer": found[0], "sentence": sentence.strip()})
    return out


def articles(text):
    parts = re.split(r"(?m)^ = (?!=)(.+?) = $\n", text)[1:]
    return list(zip(parts[0::2], parts[1::2]))


def markdown(title, body):
    """The article with its headings as Markdown has them."""
    def head(m):
        return "#" * m[1].count("=") + " " + m[2].strip(" =")
    return f"# {title}\n" + re.sub(r"(?m)^ ((?:= )+)(.+?) (?:= )+$", head, body)


def sets(text, count, hold=3):
    """(indexed articles, answerable questions, unanswerable ones), as many of each. Every fourth article is held out, from number `hold` on. Of them are the
    unanswerable ones: one half about it ("far"), the other half asked as if it were of an article that is there ("near")."""
    all_articles = articles(text)
    rare = collections.Counter(w for _, b in all_articles for w in set(re.findall(r"[a-z]{4,}", b.lower())))
    kept = [a for i, a in enumerate(all_articles) if i % 4 != hold]
    held = [a for i, a in enumerate(all_articles) if i % 4 == hold]
    facts = [[q | {"kind": "fact"} for t, b in part for q in questions(t, b)] for part in (kept, held)]
    asked = [[q | {"kind": "date"} for t, b in part for q in dates(t, b, rare)] for part in (kept, held)]
    most = min(len(facts[0]), len(facts[1]), count // 2)

    def some(items, n):  # spread over all articles
        return [items[i * len(items) // n] for i in range(n)]

    made = [some(f, most) + some(d, count - most) for f, d in zip(facts, asked)]
    for i, q in enumerate(made[1]):
        q["kind"] += ", far" if i % 2 == 0 else ", near"
        if i % 2 == 1:
            other = kept[i * 7 % len(kept)][0]
            q["question"] = q["question"].replace(q["title"], other) if q["title"] in q["question"] else f"{q['question'][:-1]}, in \"{other}\"?"
    return kept, made[0], made[1]
