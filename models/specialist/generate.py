"""Commands for a board and what they mean: the training data of the built-in specialist, made from templates.

    python3 generate.py [--heldout] [--count N] [--seed N]      lines {"input": ..., "output": ...}

Deterministic: the same seed gives the same lines. Nothing here comes from elsewhere.

Never in training:
- phrases that HELD_PHRASES names: they are written with "~" in front in the lists below;
- pairs of a phrase and a device, of a reading and a comparison, that held_pair() picks: one in twelve;
- texts that held_text() picks by their hash: one in thirty-two.
The held-out set has one third of its commands from each of the first two, all of them texts of the last.
"""
import argparse
import hashlib
import json
import random
import sys

COLOURS = ["red", "yellow", "green", "blue", "white"]
NUMBERED = {"valve": 3, "pump": 2, "relay": 2}
OUTPUTS = [c + "_light" for c in COLOURS] + [f"{n}_{i}" for n, k in NUMBERED.items() for i in range(1, k + 1) if n != "relay"] + ["fan", "heater", "buzzer", "lock", "relay_1", "relay_2"]
READINGS = ["temperature", "humidity", "tank", "battery", "brightness", "load", "memory", "storage"]
CONDITIONS = READINGS[:6]

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = "_ first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()


def words(n, r=None):
    if n < 0:
        return (r.choice(["minus ", "minus ", "negative "]) if r else "minus ") + words(-n, r)
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ((r.choice([" ", "-"]) if r else " ") + ONES[n % 10] if n % 10 else "")
    if n < 1000:
        head = ("a" if r and n < 200 and r.random() < 0.4 else ONES[n // 100]) + " hundred"
        return head + ((" and " if r and r.random() < 0.5 else " ") + words(n % 100, r) if n % 100 else "")
    return words(n // 1000, r) + " thousand" + (" " + words(n % 1000, r) if n % 1000 else "")


def number(r, n):
    """A whole number or one with a half, as it is spoken or written."""
    if n != int(n):
        whole, part = str(n).split(".")
        return str(n) if r.random() < 0.5 else words(int(whole), r) + " point " + ONES[int(part)] if part != "5" or r.random() < 0.7 else words(int(whole), r) + " and a half"
    return words(int(n), r) if r.random() < 0.55 else str(int(n))


def digest(*parts):
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "little")


def held_pair(*parts):
    return digest("pair", *parts) % 12 == 0


def held_text(text):
    return digest("text", text) % 32 == 0


class Held(Exception):
    """What was drawn belongs to the held-out set, or (there) does not."""


class Speaker:
    """Draws one command. kind: "train": nothing held out; "phrase", "pair": at least one held-out phrase or pair; "text": as train."""

    def __init__(self, r, kind="train"):
        self.r, self.kind, self.phrases, self.pairs = r, kind, 0, 0

    def pick(self, options):
        """One of a list of phrases. Where a phrase is held out, training never sees it."""
        held = [o for o in options if o.startswith("~")]
        if self.kind == "phrase" and held and self.r.random() < 0.5:
            self.phrases += 1
            return self.r.choice(held)[1:]
        return self.r.choice([o for o in options if not o.startswith("~")])

    def pair(self, *parts):
        if held_pair(*parts):
            if self.kind != "pair":
                raise Held
            self.pairs += 1

    def chance(self, p):
        return self.r.random() < p

    # ---- devices

    def device(self, output, bare=False):
        """What an output is called. bare: without an article, as in "valve two: open"."""
        r = self.r
        the = "" if bare or self.chance(0.04) else self.pick(["the "] * 9 + ["our ", "my ", "that "])
        if output.endswith("_light"):
            colour = output[:-6]
            noun = self.pick(["light"] * 6 + ["lamp", "lamp", "led", "LED", "bulb", "~indicator", "~signal light"])
            if colour == "white" and self.chance(0.5):
                return the + self.pick(["light"] * 4 + ["lamp", "lights" if the and not bare else "light"])
            if self.chance(0.06):
                return the + noun + self.pick([" that is ", " which is "]) + colour
            return the + colour + " " + noun
        if output[-1].isdigit():
            noun, n = output[:-2], int(output[-1])
            return self.numbered(noun, n, bare, one=self.chance(0.35))
        return the + self.pick({"fan": ["fan"] * 6 + ["ventilator", "ventilation", "~blower"],
                                "heater": ["heater"] * 5 + ["heating", "radiator", "~heat"],
                                "buzzer": ["buzzer"] * 5 + ["beeper", "~sounder"],
                                "lock": ["door"] * 3 + ["lock", "door lock"]}[output])

    def numbered(self, noun, n, bare=False, one=False):
        if n == 1 and one:
            return ("" if bare else "the ") + noun
        spoken = self.pick([ONES[n]] * 3 + [str(n)] * 3)
        if n == 2 and self.chance(0.04):
            spoken = self.pick(["to", "too"])
        if n == 1 and self.chance(0.03):
            spoken = "won"
        form = self.pick(["{noun} {n}"] * 8 + ["{noun} number {n}", "{noun} no {n}", "{noun} nr {n}", "{noun} #{d}", "number {n} {noun}", "the {nth} {noun}", "the {nth} {noun}", "the {nth} {noun}",
                                            "{noun} the {nth}", "the {noun} number {n}", "{d}. {noun}", "~{noun} numero {n}"])
        text = form.format(noun=noun, n=spoken, d=n, nth=ORDINALS[n] if self.chance(0.9) else ["", "1st", "2nd", "3rd", "4th"][n] if n < 5 else ORDINALS[n])
        return text[4:] if bare and text.startswith("the ") else text

    # ---- numbers

    def times(self):
        r = self.r
        n = r.choice([1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        if n == 1:
            return n, self.pick(["once", "once", "one time", "just once", "a single time", "1 time"])
        if n == 2 and self.chance(0.55):
            return n, self.pick(["twice", "twice", "~two times over"])
        if n == 3 and self.chance(0.04):
            return n, "thrice"
        if n == 12 and self.chance(0.1):
            return n, "a dozen times"
        spoken = number(r, n)
        return n, self.pick([f"{spoken} times"] * 8 + [f"{spoken}x", f"x{n}", f"{spoken} times in a row", f"for {spoken} times", f"~{spoken} times altogether"])

    def duration(self, bare=False):
        """Milliseconds, and how they are said: "ten seconds"."""
        r = self.r
        kind = r.random()
        if kind < 0.07:
            ms = r.choice([50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 750, 800, 900])
            return ms, number(r, ms) + self.pick([" milliseconds", " milliseconds", " ms", " millis"])
        if kind < 0.10:
            return 500, self.pick(["half a second", "half a second", "a half second", "0.5 seconds", "point five seconds"])
        if kind < 0.16:
            return self.r.choice([(1000, "a second"), (1000, "one second"), (1500, "one and a half seconds"), (1500, "1.5 seconds"), (2500, "two and a half seconds"), (2000, "a couple of seconds"),
                                  (2500, "2.5 seconds"), (1500, "a second and a half")])
        if kind < 0.30:
            return self.r.choice([(60000, "a minute")] * 3 + [(30000, "half a minute")] * 2 + [(90000, "one and a half minutes"), (90000, "a minute and a half"), (150000, "two and a half minutes"),
                                  (120000, "a couple of minutes"), (3600000, "an hour"), (3600000, "an hour"), (3600000, "one hour"), (3600000, "1 hour"), (1800000, "half an hour"), (1800000, "half an hour"),
                                  (900000, "a quarter of an hour"), (900000, "a quarter hour"), (60000, "one minute"), (2700000, "three quarters of an hour"), (90000, "1.5 minutes"), (3600000, "60 minutes")])
        n = r.choice([2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 15, 20, 30]) if self.chance(0.5) else r.randint(2, 60)
        if self.chance(0.05):
            n = r.choice([75, 90, 100, 120])
            return n * 1000, number(r, n) + " seconds"
        if kind < 0.70:
            return n * 1000, number(r, n) + self.pick([" seconds"] * 6 + [" sec", " secs", "s" if self.chance(0.3) else " seconds", " s"])
        return n * 60000, number(r, n) + self.pick([" minutes"] * 6 + [" min", " mins", " min."])

    # ---- actions on one output

    def action(self, output, on, gerund=False):
        """A phrase that switches an output, with a hole for what is said of time."""
        kind = "light" if output.endswith("_light") else output.split("_")[0]
        if kind == "lock":
            phrase = self.pick(LOCK[on])
            self.pair(phrase, output)
            return phrase.format(d=self.pick(["the door", "the door", "the door", "the front door", "the lock", "that door", "door", "the entrance", "up" if "{d}" in phrase and phrase.startswith(("lock", "unlock")) and on else "the door"]))
        choices = GENERIC[on] * 2 + BY_KIND.get((kind, on), []) * 2
        phrase = self.pick(choices)
        self.pair(phrase, output)
        bare = phrase.startswith("{b}")
        return phrase.replace("{b}", "{d}").format(d=self.device(output, bare))

    def switched(self, with_time=0.25):
        """One call: text and arguments."""
        r = self.r
        output = r.choice(OUTPUTS + ["red_light", "green_light", "white_light", "pump_1", "valve_2", "fan", "heater"])
        if output == "buzzer":
            return self.beeps()
        if (output.endswith("_light") and self.chance(0.32)) or (output.startswith("relay") and self.chance(0.15)):
            return self.blinks(output)
        on = self.chance(0.6)
        args = {"name": output, "on": on}
        if on and output != "lock" and self.chance(with_time):
            ms, spoken = self.duration()
            args["ms"] = ms
            choice = r.random()
            if choice < 0.12 and output[:4] in ("pump", "fan", "heat", "valv", "rela"):
                d = self.device(output, bare=True)
                verb = "open" if output.startswith("valve") else "on"
                return self.pick([f"{d} {verb} {spoken}", f"{d} {verb} for {spoken}", f"{d} for {spoken}", f"{d}, {spoken}", f"~{d} {verb}, duration {spoken}"]), args
            if choice < 0.2:
                d = self.device(output)
                return self.pick([f"give {d} {spoken}", f"let {d} " + ("flow" if output.startswith("valve") else "run" if output[:4] in ("pump", "fan", "heat") else "be on") + f" for {spoken}", f"i want {d} on for {spoken}",
                                  f"keep {d} " + ("open" if output.startswith("valve") else "on") + f" for {spoken}", f"leave {d} " + ("open" if output.startswith("valve") else "on") + f" for {spoken}"]), args
            if output.endswith("_light") and choice < 0.28:
                colour = output[:-6]
                return self.pick([f"{colour} for {spoken}", f"give me {colour} for {spoken}", f"show {colour} for {spoken}", f"light up {colour} for {spoken}"]), args
            phrase = self.action(output, on)
            place = r.random()
            if place < 0.78:
                return phrase + self.pick([" for ", " for ", " for ", " for ", " for about ", " for exactly ", " for like ", ", for ", "~ over "]) + spoken, args
            if place < 0.9:
                return "for " + spoken + self.pick([" ", ", "]) + phrase, args
            return phrase + self.pick([" and leave it on for ", " and keep it on for ", " and let it run for ", ", "]) + spoken, args
        if output.endswith("_light") and self.chance(0.12):
            colour = output[:-6]
            return self.pick([f"{colour} {'on' if on else 'off'}", f"{'lights' if colour == 'white' else colour} {'on' if on else 'off'}", f"turn {colour} {'on' if on else 'off'}",
                              f"switch {colour} {'on' if on else 'off'}", f"turn {'on' if on else 'off'} {colour}", f"turn the {colour} one {'on' if on else 'off'}", f"{'go' if on else 'no more'} {colour}"]), args
        phrase = self.action(output, on)
        if self.chance(0.05) and output != "lock":
            phrase = self.pick(REASONS.get((output.split("_")[0] if not output.endswith("_light") else "light", on), ["okay"])) + self.pick([", ", ", ", " ", ", so ", ", please "]) + phrase
        return phrase, args

    def blinks(self, output):
        d, args = self.device(output), {"name": output, "on": True}
        light = output.endswith("_light")
        verb = self.pick(["blink", "blink", "blink", "flash", "flash", "flash", "~flicker"] if light else ["pulse", "pulse", "click"])
        if not light and self.chance(0.4):
            ms, spoken = self.duration()
            return f"{verb} {d} for {spoken}", {**args, "ms": ms}
        if light and self.chance(0.15):
            d = output[:-6]
        n, spoken = self.times()
        form = self.pick(["{v} {d} {t}"] * 8 + ["{v} {d} {t}", "make {d} {v} {t}", "make {d} {v} {t}", "let {d} {v} {t}", "have {d} {v} {t}", "{t} {v} {d}", "{v} {t} with {d}", "{v} {t} in {c}", "{d} {v} {t}", "get {d} to {v} {t}",
                          "i want {d} to {v} {t}", "{d} should {v} {t}", "give me {n} {v}{es} of {d}", "{n} {v}{es} of {d}", "give {d} {n} {v}{es}", "{n} {v}{es} on {d}", "do {n} {v}{es} with {d}", "~{d} needs to {v} {t}", "~{v} away {t} with {d}"])
        if "{c}" in form and not light:
            form = "{v} {d} {t}"
        plain = number(self.r, n) if n > 1 else self.pick(["one", "a", "1", "a single"])
        es = "" if n == 1 else "es" if verb in ("flash",) else "s"
        self.pair(form, output)
        text = form.format(v=verb, d=d, t=spoken, c=output[:-6] if light else "", n=plain, es=es)
        args["times"] = n
        if self.chance(0.1):
            text = f"{verb} {d}"
            args["times"] = 3
            if "name" in args and not light:
                args["times"] = 1
            return text, args
        if self.chance(0.18):
            ms, spoken = self.duration() if self.chance(0.6) else self.r.choice([(500, "half a second"), (1000, "a second"), (1000, "one second"), (250, "250 ms"), (200, "200 milliseconds"), (2000, "two seconds")])
            if ms <= 60000:
                args = {"name": output, "on": True, "ms": ms, "times": n}
                text += self.pick([f" for {spoken} each", f", {spoken} each", f" {spoken} each", f" for {spoken} each time", f", {spoken} each time", f" for {spoken} every time", f", each {spoken} long", f" with {spoken} each", f" at {spoken} each"])
        return text, args

    def beeps(self):
        args = {"name": "buzzer", "on": True}
        kind = self.r.random()
        if kind < 0.15:
            return self.pick(["buzzer off", "stop the buzzer", "turn off the buzzer", "turn the buzzer off", "silence the buzzer", "stop beeping", "stop that beeping", "be quiet, buzzer off", "shut up the buzzer",
                              "switch the buzzer off", "stop the noise from the buzzer", "~mute the buzzer", "make the buzzer stop", "quit beeping", "no more beeping", "switch off the beeper", "disable the buzzer"]), {"name": "buzzer", "on": False}
        if kind < 0.27:
            return self.pick(["turn on the buzzer", "buzzer on", "sound the buzzer", "switch the buzzer on", "activate the buzzer", "turn the beeper on", "let the buzzer sound", "start the buzzer", "start buzzing", "put the buzzer on"]), args
        if kind < 0.42:
            ms, spoken = self.duration()
            return self.pick(["sound the buzzer for {}", "beep for {}", "buzz for {}", "buzzer on for {}", "turn on the buzzer for {}", "let the buzzer sound for {}", "make a beep of {}", "run the buzzer for {}", "buzzer for {}", "~beep for a duration of {}",
                              "give me a beep for {}", "switch the buzzer on for {}", "buzzer {}"]).format(spoken), {**args, "ms": ms}
        if kind < 0.55:
            return self.pick(["beep", "give me a beep", "make a beep", "one beep", "a short beep", "beep once", "let me hear a beep", "do a beep", "a beep", "just one beep", "sound a beep", "buzz once", "can you beep", "make it beep", "a little beep",
                              "short beep"]), {**args, "times": 1}
        n, spoken = self.times()
        if n == 1:
            n, spoken = 2, "twice"
        plain = number(self.r, n)
        text = self.pick(["beep {t}"] * 5 + ["buzz {t}", "sound the buzzer {t}", "give me {n} beeps", "{n} beeps", "make {n} beeps", "let it beep {t}", "let the buzzer beep {t}", "let the buzzer sound {t}", "make the buzzer beep {t}", "I want to hear {n} beeps",
                          "{n} short beeps", "do {n} beeps", "let me hear {n} beeps", "~beep at me {t}", "the buzzer should sound {t}", "beep the buzzer {t}", "ring the buzzer {t}", "{t} beep", "have the buzzer go {t}"]).format(t=spoken, n=plain)
        args = {**args, "times": n}
        if self.chance(0.12):
            ms, spoken = self.duration()
            if ms <= 60000:
                args = {"name": "buzzer", "on": True, "ms": ms, "times": n}
                text += self.pick([f" for {spoken} each", f", {spoken} each", f" for {spoken} each time"])
        return text, args

    def group(self):
        """Several outputs with one verb."""
        r = self.r
        on = self.chance(0.5)
        kind = r.random()
        if kind < 0.45:  # all of a kind
            noun = r.choice(["light", "light", "valve", "pump", "relay"])
            names = [o for o in OUTPUTS if o.endswith("_light")] if noun == "light" else [o for o in OUTPUTS if o.startswith(noun)]
            plural = {"light": self.pick(["lights", "lights", "lights", "lamps", "leds"])}.get(noun, noun + "s")
            many = {5: ["all the", "all", "all five", "every one of the", "all of the", "all our"], 3: ["all the", "all", "all three", "the three", "all of the", "all 3"], 2: ["both", "both the", "the two", "both of the", "all", "all the"]}[len(names)]
            d = self.pick(many) + " " + plural
            if noun == "light" and self.chance(0.15):
                d = "every " + self.pick(["light", "lamp"])
            phrase = self.pick(GENERIC[on] + BY_KIND.get((noun, on), []))
            self.pair(phrase, "all " + noun)
            text = phrase.replace("{b}", "{d}").format(d=d)
            if self.chance(0.12):
                text = plural + (" " + ("open" if on else "closed") if noun == "valve" else " on" if on else " off") + self.pick([", all of them", ", all", ", every one", ", each of them", ", the whole lot"])
            extra = {}
            if on and self.chance(0.12):
                extra["ms"], spoken = self.duration()
                text += " for " + spoken
            return text, [{"name": n, "on": on, **extra} for n in names]
        two = r.sample([o for o in OUTPUTS if o not in ("lock", "buzzer")], 3 if self.chance(0.12) else 2)
        if kind < 0.7:  # of one kind: "valve one and two", "the red and the green light"
            if self.chance(0.5):
                picked = r.sample(COLOURS, 2 if self.chance(0.8) else 3)
                noun = self.pick(["light", "lamp", "light", "lights", "leds", "lamps"])
                join = self.pick(["the {} and the {}", "the {} and {}", "{} and {}", "both the {} and the {}"]) if len(picked) == 2 else self.pick(["the {}, {} and {}", "the {}, the {} and the {}", "{}, {} and {}"])
                d = join.format(*picked) + " " + noun
                two = [c + "_light" for c in picked]
            else:
                noun = r.choice(list(NUMBERED))
                a, b = r.sample(range(1, NUMBERED[noun] + 1), 2)
                d = self.pick([f"{noun} {ONES[a]} and {ONES[b]}", f"{noun} {a} and {b}", f"{noun}s {ONES[a]} and {ONES[b]}", f"{noun}s {a} and {b}", f"{noun} {ONES[a]} and {noun} {ONES[b]}", f"the {ORDINALS[a]} and the {ORDINALS[b]} {noun}",
                               f"the {ORDINALS[a]} and {ORDINALS[b]} {noun}", f"{noun} {a} and {noun} {b}"])
                two = [f"{noun}_{a}", f"{noun}_{b}"]
            family = "light" if two[0].endswith("_light") else noun
            phrase = self.pick(GENERIC[on] + BY_KIND.get((family, on), []))
        else:
            phrase = self.pick(GENERIC[on])
            ds = [self.device(o) for o in two]
            d = ", ".join(ds[:-1]) + self.pick([" and ", " and ", " and also ", " as well as "]) + ds[-1]
        return phrase.replace("{b}", "{d}").format(d=d), [{"name": n, "on": on} for n in two]

    # ---- conditions

    def condition(self):
        r = self.r
        if self.chance(0.14):
            is_open = self.chance(0.6)
            word = self.pick(["open", "open", "opened", "not closed", "standing open", "ajar"] if is_open else ["closed", "closed", "shut", "not open", "~not standing open"])
            return self.pick(["the door is ", "the door's ", "the front door is ", "the door is "]) + word, {"name": "door", "on": is_open}
        reading = r.choice(CONDITIONS + ["temperature", "tank", "tank", "temperature"])
        above = self.chance(0.5)
        unit, spoken = "", ""
        if reading == "temperature":
            n = r.choice([r.randint(-20, 0), r.randint(1, 45), r.randint(1, 45), r.randint(15, 35), r.randint(0, 100), 0])
            if self.chance(0.05):
                n = r.randint(5, 40) + 0.5
            unit = self.pick([" degrees", " degrees", " degrees", "", " degrees celsius", " degrees centigrade", " C", "°", "°C", " celsius"])
            spoken = number(r, n)
            if unit in ("°", "°C", " C") and not spoken.lstrip("-").replace(".", "").isdigit():
                unit = " degrees"
            if n == 0 and self.chance(0.7):
                spoken, unit = "zero" if above or self.chance(0.5) else "freezing", ""
        else:
            n = r.choice([r.randint(1, 99), r.choice(range(5, 100, 5))])
            if reading == "humidity" and self.chance(0.3):
                n = r.randint(30, 90)
            unit = self.pick([" percent", " percent", " percent", "%", "%", " per cent", ""])
            spoken = number(r, n)
            if unit == "%" and not spoken.isdigit():
                unit = " percent"
            if reading == "tank" and self.chance(0.22):
                n, spoken, unit = r.choice([(50, "half", ""), (50, "half", ""), (25, "a quarter", ""), (75, "three quarters", "")])
                text = self.pick(["the tank is {} {} full", "the tank's {} {} full", "the water tank is {} {} full", "there is {} {} a tank left" if spoken == "half" else "the tank is {} {} full"])
                text = text.format(self.pick(["more than", "over"] if above else ["less than", "under", "below"]), spoken)
                self.pair(reading, above, spoken)
                return text, {"name": reading, "above" if above else "below": n}
        noun = self.pick(NOUNS[reading])
        if self.chance(0.3) and ADJECTIVES[reading][above]:
            adjective = self.pick(ADJECTIVES[reading][above])
            self.pair(reading, adjective)
            return adjective.format(n=spoken + unit), {"name": reading, "above" if above else "below": n}
        compare = self.pick(COMPARE[above])
        self.pair(reading, compare)
        if reading == "temperature" and self.chance(0.2):
            noun = "it"
            if not compare.startswith(("is", "gets", "goes", "rises", "drops", "falls", "exceeds")):
                compare = "is above" if above else "is below"
        if spoken == "freezing":
            compare = "is below"
        return f"{noun} {compare} {spoken}{unit}", {"name": reading, "above" if above else "below": n}

    def conditional(self):
        text, args = self.switched(0.12)
        if self.chance(0.08):
            text, calls = self.group()
        else:
            calls = [args]
        said, condition = self.condition()
        if_ = self.pick(["if"] * 12 + ["when"] * 5 + ["in case", "only if", "provided", "provided that", "as long as", "if it happens that", "~assuming", "~given that", "but only if", "only when"])
        form = self.r.random()
        if form < 0.5:
            whole = f"{text}{self.pick([' ', ' ', ' ', ', '])}{if_} {said}"
        elif form < 0.92:
            if_ = "if" if if_.startswith("but") else if_
            whole = f"{if_} {said}{self.pick([' ', ', ', ', ', ' then ', ', then ', ' please ', ', please '])}{text}"
        else:
            for a, b in (("is ", "be "), ("gets ", "get "), ("goes ", "go "), ("drops ", "drop "), ("falls ", "fall "), ("rises ", "rise "), ("exceeds ", "exceed ")):
                if f" {a}" in said:
                    whole = "should " + said.replace(f" {a}", f" {b}", 1) + self.pick([" ", ", "]) + text
                    break
            else:
                whole = f"if {said}, {text}"
        if len(calls) > 1 and len(calls) > 3:
            raise Held  # too long an answer
        return whole, [{**a, "if": condition} for a in calls]

    # ---- questions

    def question(self):
        reading = self.r.choice(READINGS + ["temperature", "tank", "humidity", "battery", "temperature"])
        form = self.pick(ASK * 2 + QUESTIONS[reading] * 2)
        self.pair(form, reading)
        return form.format(q=self.pick(ASKED[reading])), {"name": "read", "arguments": {"name": reading}}

    def state(self):
        if self.chance(0.22):
            return self.pick(DOOR), {"name": "door", "arguments": {}}
        output = self.r.choice(OUTPUTS)
        kind = "light" if output.endswith("_light") else output.split("_")[0]
        form = self.pick(STATE * 2 + STATE_OF.get(kind, []) * 2)
        self.pair(form, output)
        d = self.device(output)
        if kind == "lock":
            form = self.pick(LOCKED)
            d = self.pick(["the door", "the front door", "the door lock", "the lock", "the entrance"])
        return form.format(d=d), {"name": "state", "arguments": {"name": output}}

    # ---- everything

    def simple(self):
        kind = self.r.random()
        if kind < 0.72:
            text, args = self.switched(0.2)
            return text, {"name": "switch", "arguments": args}
        return self.question() if kind < 0.9 else self.state()

    def several(self):
        if self.chance(0.42):
            text, calls = self.group()
            calls = [{"name": "switch", "arguments": a} for a in calls]
            if len(calls) <= 3 and self.chance(0.1):
                more, call = self.simple()
                text, calls = text + self.pick([" and ", " and then ", ", then "]) + more, calls + [call]
            return text, calls
        kind = self.r.random()
        if kind < 0.2:  # one off, the other on
            a, b = self.r.sample([o for o in OUTPUTS if o not in ("lock", "buzzer") and not o.startswith("valve")], 2)
            on = self.chance(0.5)
            x, y = ("on", "off") if on else ("off", "on")
            da, db = self.device(a), self.device(b)
            if a.endswith("_light") and b.endswith("_light") and self.chance(0.5):
                da, db = "the " + a[:-6] + " light", "the " + b[:-6] + self.pick([" one", " one", ""])
            text = self.pick([f"turn {da} {x} and {db} {y}", f"switch {da} {x} and {db} {y}", f"{da} {x} and {db} {y}", f"{da} {x}, {db} {y}", f"turn {x} {da} and {y} {db}", f"put {da} {x} and {db} {y}", f"switch {x} {da} and {y} {db}"])
            return text, [{"name": "switch", "arguments": {"name": a, "on": on}}, {"name": "switch", "arguments": {"name": b, "on": not on}}]
        if kind < 0.4:  # two readings
            a, b = self.r.sample(READINGS, 2)
            qa, qb = self.pick(ASKED[a]), self.pick(ASKED[b])
            three = None
            text = self.pick(["what are {} and {}", "tell me {} and {}", "read {} and {}", "what is {} and {}", "give me {} and {}", "i need {} and {}", "{} and {} please", "report {} and {}", "how are {} and {}", "show me {} and {}", "{} and {}",
                              "check {} and {}", "what's {} and what's {}", "read out {} and {}", "read me {} and {}", "~let me have {} and {}"])
            names = [a, b]
            if self.chance(0.15):
                three = self.r.choice([x for x in READINGS if x not in names])
                text = text.replace("{} and {}", "{}, {} and {}") if "{} and {}" in text else "what are {}, {} and {}"
                names.append(three)
            text = text.format(qa, qb, *([self.pick(ASKED[three])] if three else []))
            return text, [{"name": "read", "arguments": {"name": n}} for n in names]
        parts = [self.simple() for _ in range(3 if self.chance(0.15) else 2)]
        join = self.pick([" and ", " and ", " and ", " and then ", " then ", ", then ", ", ", " and also ", "; ", ", and ", ". then ", " and after that ", ", and then ", "~ followed by "])
        return ", ".join(p[0] for p in parts[:-1]) + join + parts[-1][0], [p[1] for p in parts]

    def corrected(self):
        """Somebody takes back what was said first."""
        a, b = self.r.sample([o for o in OUTPUTS if o not in ("lock", "buzzer")], 2)
        on = self.chance(0.6)
        phrase = self.pick(GENERIC[on])
        da, db = self.device(a), self.device(b)
        sorry = self.pick([", no, ", ", sorry, ", ", I mean ", ", no wait, ", " no ", ", no I mean ", ", wait, ", ", sorry, I meant ", ", er, ", ", correction, ", ", actually ", "~, scratch that, "])
        if phrase.endswith("{d}"):
            return phrase.format(d=da) + sorry + db, [{"name": "switch", "arguments": {"name": b, "on": on}}]
        return phrase.replace("{b}", "{d}").format(d=da + sorry + db), [{"name": "switch", "arguments": {"name": b, "on": on}}]

    def polite(self, text, command=True):
        r = self.r
        if command and self.chance(0.42):
            text = self.pick(BEFORE) + text
            if self.chance(0.12):
                text = self.pick(NOISE) + text
        elif self.chance(0.1):
            text = self.pick(NOISE) + text
        if self.chance(0.22):
            text += self.pick(AFTER)
        if self.chance(0.04):  # a filler in the middle
            w = text.split(" ")
            if len(w) > 3:
                w.insert(r.randint(1, len(w) - 1), self.pick(["um", "uh", "uhm", "er", "like", ", uh,", ", um,", "you know"]))
                text = " ".join(w).replace(" ,", ",")
        return text

    def written(self, text):
        """As it comes from a keyboard or a recognizer: letters, punctuation, slips."""
        r = self.r
        if self.chance(0.1):
            w = text.split(" ")
            for _ in range(r.choice([1, 1, 1, 2])):
                i = r.randrange(len(w))
                w[i] = slip(r, w[i])
            text = " ".join(w)
        choice = r.random()
        if choice < 0.35:
            text = text[:1].upper() + text[1:]
        elif choice < 0.40:
            text = text.upper()
        elif choice < 0.43:
            text = text.title()
        elif choice < 0.75:
            text = text.lower()
        if self.chance(0.4):
            text += r.choice([".", ".", ".", "!", "?", "?", " ?", "..."])
        if self.chance(0.03):
            text = text.replace("'", "")
        if self.chance(0.06):
            text = text.replace(",", "")
        return text

    def command(self):
        """(text, answer)"""
        r = self.r
        kind = r.random()
        if kind < 0.33:
            text, args = self.switched()
            calls, command = [{"name": "switch", "arguments": args}], True
        elif kind < 0.48:
            text, call = self.question()
            calls, command = [call], False
        elif kind < 0.555:
            text, call = self.state()
            calls, command = [call], False
        elif kind < 0.70:
            text, list_ = self.conditional()
            calls, command = [{"name": "switch", "arguments": a} for a in list_], True
        elif kind < 0.80:
            text, calls = self.several()
            command = calls[0]["name"] == "switch"
        elif kind < 0.815:
            text, calls = self.corrected()
            command = True
        else:
            return self.written(self.polite(self.nothing(), self.chance(0.3))), {"text": "not for me"}
        if len(calls) > 8:
            raise Held
        return self.written(self.polite(text, command)), {"calls": calls}

    # ---- what is not for the board

    def nothing(self):
        r = self.r
        kind = r.random()
        if kind < 0.26:
            return self.pick(CHAT)
        if kind < 0.42:
            form = self.pick(GENERAL)
            return form.format(noun=r.choice(THINGS), place=r.choice(PLACES), name=r.choice(PEOPLE), verb=r.choice(DOINGS), a=number(r, r.randint(2, 99)), b=number(r, r.randint(2, 99)), lang=r.choice(LANGUAGES),
                               clock=self.clock(), food=r.choice(FOODS))
        if kind < 0.62:  # a device that is not there
            d = self.pick(ABSENT)
            if self.chance(0.45):
                noun = r.choice(["valve", "pump", "relay"])
                d = self.numbered(noun, r.randint(NUMBERED[noun] + 1, 12))
            elif self.chance(0.2):
                d = "the " + r.choice(["purple", "orange", "pink", "violet", "brown", "black", "turquoise", "grey", "cyan", "magenta", "golden"]) + " " + r.choice(["light", "lamp", "led", "light"])
            on = self.chance(0.6)
            phrase = self.pick(GENERIC[on] * 2 + (BY_KIND[("valve", on)] if "valve" in d or self.chance(0.3) else []))
            text = phrase.replace("{b}", "{d}").format(d=d)
            if "light" in d and self.chance(0.3):
                text = f"{r.choice(['blink', 'flash'])} {d} {self.times()[1]}"
            if self.chance(0.12):
                text += " for " + self.duration()[1]
            if self.chance(0.07):
                text = f"if {self.condition()[0]} {text}"
            return text
        if kind < 0.75:  # what the board cannot do with what it has
            d = self.device(r.choice(OUTPUTS))
            form = self.pick(CANNOT)
            return form.format(d=d, n=number(r, r.randint(5, 95)), t=self.duration()[1], clock=self.clock(), do=self.plain(), q=self.pick(ASKED[r.choice(READINGS)]), c=self.condition()[0])
        if kind < 0.93:  # it is only spoken of
            form = self.pick(SPOKEN_OF)
            return form.format(d=self.device(r.choice([o for o in OUTPUTS if o != "lock"])), do=self.plain(), noun=r.choice(THINGS), r=self.pick(ASKED[r.choice(READINGS)]))
        if kind < 0.97:
            n = r.randint(1, 5)
            return " ".join(r.choice(THINGS + DOINGS + "the a of and with so because very then my your is was not".split()) for _ in range(n))
        return self.pick(["turn on", "switch off the", "turn", "if the tank is", "the", "open", "close", "set", "start", "blink", "three times", "ten seconds", "for five minutes", "off", "on", "maybe", "red", "and then", "turn it on and", "please turn",
                          "if", "when the temperature", "yes please", "the first one", "twice", "that one", "do it", "do it again", "again", "more", "less", "louder", "stop", "go", "undo that", "could you please", "for", "and"])

    def plain(self):
        text, _ = self.switched(0.1)
        return text

    def clock(self):
        r = self.r
        h = r.randint(1, 12)
        return self.pick([f"{ONES[h]} o'clock", f"{h} am", f"{h} pm", f"half past {ONES[h]}", f"{ONES[h]} in the morning", f"{ONES[h]} in the evening", f"{h}:{r.randint(10, 59)}", "noon", "midnight", f"quarter to {ONES[h]}", "sunset", "sunrise"])


def slip(r, w):
    letters = [i for i, c in enumerate(w) if c.isalpha()]
    if len(letters) < 4 or len(letters) != len(w) or w in ("minus", "open", "close", "closed", "times", "above", "below", "over", "under", "lock", "unlock"):
        return w
    if w in TYPICAL and r.random() < 0.5:
        return r.choice(TYPICAL[w])
    i = r.randint(1, len(w) - 2)
    kind = r.random()
    if kind < 0.4:
        return w[:i] + w[i + 1] + w[i] + w[i + 2:]
    if kind < 0.7:
        return w[:i] + w[i + 1:]
    if kind < 0.9:
        return w[:i] + w[i] + w[i:]
    return w[:i] + r.choice("abcdefghijklmnopqrstuvwxyz") + w[i + 1:]


TYPICAL = {"light": ["lite", "ligth", "ligt", "lihgt"], "temperature": ["temprature", "temperatur", "temp", "tempature"], "switch": ["swich", "swtich", "switsh"], "turn": ["trun", "tun", "tern"], "valve": ["vavle", "valv", "value"],
           "humidity": ["humidty", "humidiy", "humdity"], "battery": ["batery", "battry", "batterie"], "yellow": ["yelow", "yello"], "green": ["gren", "grene"], "white": ["wite", "whit"], "heater": ["heeter", "heather"], "relay": ["realy", "relai"],
           "buzzer": ["buzer", "buzzr"], "please": ["pls", "plz", "pleas"], "seconds": ["secods", "secnds", "sceonds"], "minutes": ["minuts", "mintues"], "second": ["secnd", "secod"], "percent": ["pecent", "precent"], "level": ["levle", "leval"],
           "degrees": ["degres", "degress", "deegrees"], "pump": ["pmup", "pomp"], "blink": ["blnik", "blinck"], "flash": ["flahs", "flassh"]}

GENERIC = {
    True: ["turn on {d}", "turn on {d}", "turn on {d}", "turn {d} on", "turn {d} on", "switch on {d}", "switch {d} on", "put {d} on", "put on {d}", "activate {d}", "enable {d}", "power on {d}", "power up {d}", "start {d}", "flip {d} on", "flip on {d}",
           "{b} on", "{b} on", "{b}: on", "{b} please on", "set {d} to on", "{d} should be on", "i want {d} on", "i'd like {d} on", "get {d} on", "bring {d} on", "make {d} go on", "fire up {d}", "let {d} come on", "have {d} switched on", "see that {d} is on",
           "i need {d} on", "i want {d} to be on", "make sure {d} is on", "turn {d} back on", "toggle {d} on", "~engage {d}", "~get {d} powered", "~{d} needs to be on"],
    False: ["turn off {d}", "turn off {d}", "turn off {d}", "turn {d} off", "turn {d} off", "switch off {d}", "switch {d} off", "put {d} off", "put off {d}", "deactivate {d}", "disable {d}", "power off {d}", "power down {d}", "shut off {d}", "shut {d} off",
            "shut down {d}", "shut {d} down", "kill {d}", "cut {d}", "stop {d}", "cut the power to {d}", "{b} off", "{b} off", "{b}: off", "{b} please off", "set {d} to off", "{d} should be off", "i want {d} off", "i'd like {d} off", "get {d} off", "make {d} go off",
            "have {d} switched off", "i don't need {d} anymore", "no more {b}", "see that {d} is off", "flip {d} off", "make sure {d} is off", "i want {d} to be off", "we don't need {d} any more", "end {d}", "toggle {d} off", "~disengage {d}", "~take {d} offline",
            "~{d} can go off"],
}
BY_KIND = {
    ("light", True): ["light up {d}", "illuminate {d}", "light {d}", "{d} should shine", "let {d} shine", "show {d}", "let there be light with {d}", "~make {d} glow"],
    ("light", False): ["darken {d}", "put out {d}", "lights out for {d}", "extinguish {d}", "{b} out", "~douse {d}"],
    ("valve", True): ["open {d}"] * 8 + ["open up {d}", "open {d} up", "{b} open", "{b}: open", "{d} should be open", "i want {d} open", "i want {d} opened", "let water through {d}", "get {d} open", "set {d} to open", "have {d} opened", "make sure {d} is open", "~unshut {d}"],
    ("valve", False): ["close {d}"] * 8 + ["shut {d}"] * 3 + ["close {d} up", "{b} closed", "{b} close", "{b}: closed", "{d} should be closed", "i want {d} closed", "i want {d} shut", "i'd like {d} closed", "no water through {d}", "get {d} closed", "set {d} to closed",
                       "make sure {d} is closed", "have {d} closed", "~seal {d}"],
    ("pump", True): ["run {d}"] * 3 + ["start {d}"] * 3 + ["start up {d}", "start {d} up", "get {d} going", "get {d} running", "let {d} run", "have {d} run", "pump with {d}", "{d} should run", "make {d} run", "set {d} running", "~set {d} in motion"],
    ("pump", False): ["stop {d}"] * 4 + ["halt {d}", "{d} should stop", "make {d} stop", "let {d} stop", "stop running {d}", "bring {d} to a stop", "~{d} can rest"],
    ("fan", True): ["run {d}", "start {d}", "get {d} going", "get {d} running", "get {d} spinning", "let {d} run", "spin up {d}", "blow some air with {d}", "~make {d} spin"],
    ("fan", False): ["stop {d}", "stop {d}", "halt {d}", "{d} should stop", "make {d} stop", "spin down {d}"],
    ("heater", True): ["run {d}", "start {d}", "get {d} going", "get {d} running", "warm it up with {d}", "let {d} run"],
    ("heater", False): ["stop {d}", "stop heating with {d}", "{d} should stop"],
    ("relay", True): ["switch {d} on", "pull in {d}", "energize {d}", "activate {d}", "~set {d}"],
    ("relay", False): ["release {d}", "drop {d}", "de-energize {d}", "~reset {d}"],
}
LOCK = {
    True: ["lock {d}"] * 8 + ["lock {d} please", "please lock {d}", "bolt {d}", "secure {d}", "make sure {d} is locked", "i want {d} locked", "lock up", "keep {d} locked", "get {d} locked", "{d} should be locked", "have {d} locked", "lock it up", "engage the lock",
                                "turn the lock on", "activate the lock", "close the lock", "lock that door", "see that {d} is locked", "lock on", "~latch {d}"],
    False: ["unlock {d}"] * 8 + ["unlock", "please unlock {d}", "unbolt {d}", "release the lock", "release the door", "i want {d} unlocked", "get {d} unlocked", "let me in", "{d} should be unlocked", "open the lock", "open the door lock", "have {d} unlocked",
                                     "take the lock off", "turn off the lock", "turn the lock off", "deactivate the lock", "let him in, unlock {d}", "i'm outside, unlock {d}", "lock off", "unlock it", "let us in", "~unlatch {d}"],
}
REASONS = {
    ("light", True): ["it's dark", "it's dark in here", "it's so dark here", "i can't see anything", "it is getting dark", "i can't see a thing", "we need some light"],
    ("light", False): ["it's too bright", "it's so bright in here", "i want to sleep", "we are leaving", "we don't need light", "it's bright enough"],
    ("fan", True): ["it's hot", "it's so stuffy in here", "i'm hot", "we need some air", "it smells in here", "we could use some fresh air", "it's way too warm"],
    ("fan", False): ["it's noisy", "it's too windy", "it's cool enough now", "that's enough air"],
    ("heater", True): ["i'm cold", "it's cold in here", "brr", "i'm freezing", "my hands are cold", "it's chilly"],
    ("heater", False): ["it's too hot", "i'm sweating", "it's warm enough", "that is warm enough"],
    ("pump", True): ["we need water", "the plants are dry", "the basin is empty"],
    ("pump", False): ["that's enough water", "it's overflowing"],
    ("valve", True): ["we need water", "the garden is dry"],
    ("valve", False): ["that's enough water", "the floor is wet", "it leaks"],
}
NOUNS = {
    "temperature": ["the temperature", "the temperature", "the temperature", "temperature", "the temp", "the room temperature", "the air temperature", "~the reading of the thermometer"],
    "humidity": ["the humidity", "the humidity", "humidity", "the air humidity", "the relative humidity", "the moisture"],
    "tank": ["the tank", "the tank", "the tank level", "the water tank", "the level in the tank", "the water level", "the level of the tank", "tank level", "the tank's level", "~the fill level"],
    "battery": ["the battery", "the battery", "the battery level", "battery", "the charge", "the battery charge", "the charge of the battery", "the accumulator"],
    "brightness": ["the brightness", "the brightness", "brightness", "the light level", "the ambient light", "the daylight", "~the illumination"],
    "load": ["the load", "the cpu load", "the load", "the processor load", "the system load", "cpu load", "the cpu", "the CPU usage", "~the processor usage"],
}
COMPARE = {
    True: ["is above"] * 5 + ["is over"] * 4 + ["is more than", "is higher than", "is greater than", "exceeds", "goes above", "rises above", "gets above", "is larger than", "goes over", "gets over", "is beyond", "climbs above", "rises over", "is at more than", "reads more than", "~tops",
                               "~is in excess of"],
    False: ["is below"] * 5 + ["is under"] * 4 + ["is less than", "is lower than", "drops below", "falls below", "goes below", "gets below", "is smaller than", "goes under", "drops under", "falls under", "sinks below", "is at less than", "reads less than", "~dips below", "~is short of"],
}
ADJECTIVES = {
    "temperature": {True: ["it's warmer than {n}", "it is warmer than {n}", "it's hotter than {n}", "it is hotter than {n}", "it gets warmer than {n}", "it gets hotter than {n}", "it's more than {n} in here", "it's over {n}", "it's above {n}", "the room is warmer than {n}",
                           "~it's toastier than {n}"],
                    False: ["it's colder than {n}", "it is colder than {n}", "it's cooler than {n}", "it is cooler than {n}", "it gets colder than {n}", "it gets cooler than {n}", "it's less than {n} in here", "it's under {n}", "it's below {n}", "the room is colder than {n}",
                            "~it's chillier than {n}"]},
    "humidity": {True: ["it's more humid than {n}", "the air is more humid than {n}", "it's damper than {n}", "we have more than {n} humidity", "the air is wetter than {n}", "it is more humid than {n}"],
                 False: ["it's drier than {n}", "the air is drier than {n}", "it's less humid than {n}", "we have less than {n} humidity", "it is drier than {n}"]},
    "tank": {True: ["the tank is fuller than {n}", "the tank is more than {n} full", "the tank is over {n} full", "the tank has more than {n}", "there is more than {n} in the tank", "there's more than {n} water in the tank"],
             False: ["the tank is emptier than {n}", "the tank is less than {n} full", "the tank is under {n} full", "the tank has less than {n}", "there is less than {n} in the tank", "there's less than {n} water in the tank"]},
    "battery": {True: ["the battery has more than {n}", "the battery is charged over {n}", "we have more than {n} battery", "there is more than {n} battery left", "the battery is fuller than {n}", "we have more than {n} charge"],
                False: ["the battery has less than {n}", "the battery is charged less than {n}", "we have less than {n} battery", "there is less than {n} battery left", "the battery is down to less than {n}", "we have less than {n} charge"]},
    "brightness": {True: ["it's brighter than {n}", "it is brighter than {n}", "it gets brighter than {n}", "there is more than {n} light", "it's lighter than {n}"],
                   False: ["it's darker than {n}", "it is darker than {n}", "it gets darker than {n}", "there is less than {n} light", "it's less bright than {n}", "the room is darker than {n}"]},
    "load": {True: ["the cpu is busier than {n}", "the processor is more than {n} busy", "the cpu is over {n} busy", "the board is loaded more than {n}", "the processor is busier than {n}"],
             False: ["the cpu is less busy than {n}", "the processor is less than {n} busy", "the cpu is under {n} busy", "the board is loaded less than {n}"]},
}
ASK = ["what is {q}", "what is {q}", "what's {q}", "what's {q}", "tell me {q}", "tell me {q}", "give me {q}", "read {q}", "read me {q}", "show me {q}", "show {q}", "check {q}", "report {q}", "{q}", "{q} please", "{q} now", "what's {q} now", "what's {q} right now",
       "what is {q} at the moment", "what is {q} currently", "how is {q}", "i want to know {q}", "i need {q}", "do you know {q}", "could you tell me {q}", "can you tell me what {q} is", "can you tell me {q}", "please tell me {q}", "let me know {q}", "i'd like to know {q}",
       "tell me what {q} is", "would you read {q}", "what does {q} say", "how about {q}", "what about {q}", "and {q}", "any news on {q}", "have a look at {q}", "could you check {q}", "is it possible to get {q}", "i wonder what {q} is", "give me a reading of {q}",
       "what {q} do we have", "measure {q}", "query {q}", "get {q}", "read out {q}", "look up {q}", "what value has {q}", "~state {q}", "~fetch {q}", "~how does {q} look", "~inform me about {q}"]
ASKED = {
    "temperature": ["the temperature", "the temperature", "the temperature", "the current temperature", "temperature", "the temp", "the room temperature", "the air temperature", "the degrees", "the thermometer", "the heat in here"],
    "humidity": ["the humidity", "the humidity", "humidity", "the air humidity", "the current humidity", "the relative humidity", "the moisture", "the moisture in the air", "the dampness"],
    "tank": ["the tank level", "the tank level", "the level of the tank", "the level in the tank", "the water level", "the fill level of the tank", "the tank", "the water tank level", "the tank's level", "tank level", "the state of the tank"],
    "battery": ["the battery level", "the battery level", "the battery", "the battery charge", "the charge of the battery", "the state of charge", "battery level", "the remaining battery", "the battery status", "the charge level", "the power left in the battery"],
    "brightness": ["the brightness", "the brightness", "the light level", "the ambient light", "the current brightness", "brightness", "the light intensity", "the lux", "the amount of light", "the daylight level"],
    "load": ["the cpu load", "the load", "the processor load", "the system load", "the cpu usage", "the load average", "cpu load", "the load of the processor", "the load of the board", "the current load", "the processor usage"],
    "memory": ["the free memory", "the memory", "the available memory", "the amount of free memory", "the free ram", "the memory left", "free memory", "the remaining memory", "the ram", "the memory status"],
    "storage": ["the free disk space", "the storage", "the free storage", "the disk space", "the space on the disk", "the space left on the card", "free space", "the remaining storage", "the free space on the sd card", "the storage left"],
}
QUESTIONS = {
    "temperature": ["how warm is it", "how hot is it", "how cold is it", "how warm is it in here", "how hot is it in here", "how cold is it outside", "is it warm", "is it cold in there", "how many degrees is it", "how many degrees do we have", "how warm is the room",
                    "is it hot in here", "what temperature do we have", "what temperature is it", "how warm does it feel", "how warm is it now", "how many degrees are we at", "how hot has it got", "what's it like, warm or cold", "what does the thermometer show", "is it getting warm",
                    "how cold has it become", "how warm is it right now", "how hot is it at the moment", "is it freezing", "degrees please", "how warm is the air", "~how chilly is it", "~how toasty is it"],
    "humidity": ["how humid is it", "how humid is the air", "how damp is it", "how damp is the air in here", "how moist is the air", "is it humid", "is the air dry", "is it damp in here", "how dry is it", "how dry is the air", "how wet is the air", "how much moisture is in the air",
                 "how humid is it in here", "how many percent humidity do we have", "what does the hygrometer say", "~how muggy is it"],
    "tank": ["how full is the tank", "how much water is in the tank", "how much is in the tank", "how much is left in the tank", "how empty is the tank", "is the tank full", "is the tank empty", "is there water in the tank", "how much water do we have", "how much water is left",
             "do we have enough water in the tank", "how high is the water", "how high is the water in the tank", "is there enough in the tank", "how many percent is in the tank", "is the tank still full", "how's the tank doing", "how far is the tank filled", "is the water tank empty",
             "how full is the water tank", "what percentage is the tank at", "where is the tank at", "is there anything left in the tank", "~how topped up is the tank"],
    "battery": ["how much battery is left", "how full is the battery", "how much charge is left", "is the battery low", "is the battery full", "how's the battery", "how is the battery doing", "how much power do we have left", "how much battery do we have", "is the battery empty",
                "is the battery charged", "how charged is the battery", "how much juice is left", "do we have enough battery", "is there enough charge", "how many percent does the battery have", "what percentage is the battery at",
                "where is the battery at", "is the battery nearly empty", "does the battery still have charge", "how much energy is left in the battery", "~is the accumulator flat"],
    "brightness": ["how bright is it", "how dark is it", "how light is it", "how bright is it in here", "how bright is it outside", "is it dark", "is it bright in here", "is it dark outside", "how much light is there", "how much light do we get", "is there enough light",
                   "how dark is it in here", "how sunny is it", "is it light enough", "how much daylight is there", "is it still light", "how bright is the room", "is it dark already", "~how dim is it"],
    "load": ["how busy is the cpu", "how busy is the board", "how busy are you", "how loaded is the system", "how hard is the processor working", "is the cpu busy", "is the processor busy", "how much cpu is used", "how much load is there", "is the system under load",
             "how loaded is the board", "how loaded is the processor", "is the board busy", "how busy is the system", "are you busy", "~how taxed is the cpu"],
    "memory": ["how much memory is free", "how much memory is left", "how much memory do we have", "how much ram is free", "how much ram is left", "is there enough memory", "is memory running out", "do we have memory left", "how full is the memory", "is there any ram left",
               "how much memory is available", "are we low on memory", "how much free memory is there", "~is ram tight"],
    "storage": ["how much disk space is left", "how much space is left", "how full is the disk", "how full is the sd card", "is the disk full", "is there space left", "is the sd card full", "how much storage is left", "how much storage is free", "do we have enough disk space",
                "how much free space is there", "how much room is on the disk", "is there enough storage", "are we running out of disk space", "how much space is free on the card", "~is the drive full"],
}
STATE = ["is {d} on", "is {d} on", "is {d} on", "is {d} off", "is {d} off", "is {d} on or off", "is {d} still on", "is {d} switched on", "is {d} turned on", "is {d} switched off", "is {d} turned off", "is {d} on right now", "is {d} on at the moment", "is {d} active",
         "what is the state of {d}", "what's the state of {d}", "state of {d}", "status of {d}", "check if {d} is on", "check whether {d} is on", "tell me if {d} is on", "tell me whether {d} is off", "did i leave {d} on", "did somebody leave {d} on", "did anyone switch off {d}",
         "do you know if {d} is on", "has {d} been turned on", "has {d} been switched off", "was {d} switched on", "have we turned off {d}", "did i turn off {d}", "did you turn on {d}", "can you check {d}", "is {d} still off", "is {d} already on", "which state is {d} in",
         "see if {d} is on", "see whether {d} is still on", "is {d} enabled", "what's {d} doing", "what is {d} doing", "is {d} powered", "~could {d} be on", "~would you look if {d} is on"]
STATE_OF = {
    "valve": ["is {d} open"] * 4 + ["is {d} closed"] * 4 + ["is {d} open or closed", "is {d} shut", "is {d} still open", "did i close {d}", "did somebody open {d}", "check if {d} is closed", "check whether {d} is open", "have we closed {d}", "has {d} been opened", "tell me if {d} is open"] * 2,
    "pump": ["is {d} running"] * 4 + ["does {d} run", "is {d} still running", "has {d} stopped", "is {d} working", "did {d} stop", "check whether {d} is running", "tell me if {d} runs", "is {d} pumping"],
    "fan": ["is {d} running"] * 3 + ["does {d} run", "is {d} spinning", "is {d} still running", "has {d} stopped", "is {d} working"],
    "heater": ["is {d} running", "is {d} heating", "is {d} working", "are we heating with {d}", "is {d} still running"],
    "light": ["is {d} lit", "is {d} shining", "is {d} burning", "does {d} shine", "did i leave {d} on"],
    "relay": ["is {d} closed", "is {d} energized", "is {d} pulled in"],
    "buzzer": ["is {d} sounding", "is {d} beeping"],
}
LOCKED = ["is {d} locked", "is {d} locked", "is {d} locked", "is {d} unlocked", "is {d} locked right now", "is {d} still locked", "did i lock {d}", "did somebody lock {d}", "did you lock {d}", "check if {d} is locked", "check whether {d} is locked", "is {d} locked or unlocked", "have we locked {d}",
          "has {d} been locked", "tell me if {d} is locked", "what's the state of the lock", "status of the lock", "is the lock on", "is the lock engaged", "see whether {d} is locked", "can you check the lock", "is the lock closed", "has {d} been unlocked", "~could {d} be unlocked"]
DOOR = ["is the door open", "is the door open", "is the door open", "is the door closed", "is the door closed", "is the door shut", "is the door open or closed", "is the front door open", "did someone open the door", "did i leave the door open", "did i close the door", "is the door still open",
        "what is the state of the door", "what's the state of the door", "check the door", "check if the door is open", "check whether the door is closed", "door status", "status of the door", "tell me if the door is open", "tell me whether the door is shut", "has somebody opened the door", "is that door open",
        "is the entrance open", "is the front door closed", "has the door been closed", "see if the door is open", "is the door ajar", "how is the door", "is the door standing open", "have we closed the door", "did you see if the door is closed", "~could the door be open", "~anyone left the door open"]

BEFORE = ["please "] * 8 + ["could you "] * 3 + ["could you please "] * 2 + ["can you "] * 3 + ["can you please ", "can we ", "would you ", "would you please ", "will you ", "i need you to ", "i want you to ", "i'd like you to ", "go ahead and ", "now ", "just ", "hey, ", "hey ", "okay, ", "ok ", "okay so ",
                        "so ", "board, ", "hello, ", "hi, ", "let's ", "you should ", "time to ", "quickly ", "kindly ", "hey board, ", "computer, ", "be so kind and ", "you can ", "next, ", "alright, ", "well, ", "then ", "i think you should ", "we need to ", "it's time to ", "may i ask you to ",
                        "do me a favour and ", "listen, ", "hey there, ", "good, now ", "go and ", "would it be possible to ", "try to ", "hello board, please ", "i would like to ", "if you could ", "please now ", "~be a dear and ", "~how about you "]
NOISE = ["um, ", "uh, ", "um ", "uh ", "er, ", "hmm, ", "well, ", "so, ", "okay, ", "oh, ", "ah, ", "right, ", "hey, ", "ok, ", "excuse me, ", "sorry, ", "yeah, ", "look, ", "hello, ", "hi, ", "good morning, ", "now, "]
AFTER = [" please", " please", " please", ", please", ", please", " now", " now", " right now", " for me", " thanks", ", thanks", ", thank you", " thank you", ", will you", ", would you", ", ok", ", okay", " immediately", " quickly", " at once", " today", " again", " if you can", " will you", " right away",
         ", quick", " if possible", " then", ", my friend", ", can you", " pls", "~ on the double", " in here"]

PLACES = ["Paris", "Berlin", "Spain", "Italy", "France", "Norway", "Japan", "London", "New York", "Vienna", "Rome", "Brazil", "Egypt", "Kenya", "India", "Boston", "Lisbon", "Oslo", "Madrid", "Canada", "Peru", "Greece", "Munich", "Dublin", "the moon", "Mars", "China", "Sweden"]
PEOPLE = ["my mother", "my wife", "Anna", "Peter", "the doctor", "my boss", "Tom", "the office", "my brother", "Lisa", "grandma", "the neighbour", "Shakespeare", "Einstein", "Mozart", "the president", "the plumber", "Maria", "my sister", "the police", "dad"]
THINGS = ["dog", "cat", "car", "bicycle", "book", "song", "film", "guitar", "house", "garden", "river", "mountain", "train", "plane", "phone", "shoe", "jacket", "football", "chess", "recipe", "cake", "coffee", "tea", "story", "poem", "letter", "holiday", "party", "school", "market", "horse",
          "tree", "flower", "bread", "cheese", "movie", "newspaper", "photo", "camera", "ticket", "hotel", "boat", "beach", "winter", "summer", "engine", "sun", "star", "planet", "radio", "volcano", "dinosaur", "language", "history", "music", "money", "bank", "shop", "doctor", "robot", "computer"]
DOINGS = ["cook rice", "bake a cake", "fix a bike", "tie a tie", "learn Spanish", "play chess", "write a letter", "paint a wall", "build a shed", "train a dog", "knit a scarf", "make coffee", "clean a carpet", "repair a roof", "grow tomatoes", "drive a truck", "sharpen a knife", "boil an egg", "change a tyre",
          "draw a horse", "solder a wire", "build a pump", "repair a valve", "install a fan", "wire a relay", "charge a battery"]
LANGUAGES = ["French", "German", "Spanish", "Italian", "Latin", "Japanese", "Dutch", "Polish", "Greek"]
FOODS = ["pizza", "two coffees", "a sandwich", "noodles", "a burger", "sushi", "flowers", "new shoes", "a taxi", "groceries", "milk and eggs", "a book"]
ABSENT = ["the television", "the tv", "the radio", "the oven", "the coffee machine", "the dishwasher", "the washing machine", "the garage", "the garage door", "the gate", "the blinds", "the curtains", "the window", "the shutters", "the camera", "the music", "the stereo", "the computer", "the printer",
          "the air conditioner", "the ac", "the vacuum cleaner", "the robot", "the sprinkler", "the shower", "the microwave", "the fridge", "the freezer", "the alarm", "the siren", "the bell", "the doorbell", "the engine", "the motor", "the compressor", "the boiler", "the fireplace", "the projector",
          "the kettle", "the toaster", "the elevator", "the lift", "the conveyor", "the laser", "the drill", "the mixer", "the wifi", "the bluetooth", "the screen", "the display", "the monitor", "the toilet", "the tap", "the bathtub", "the car", "the drone", "the charger", "the speaker", "the microphone",
          "the kitchen", "the router", "the tap in the kitchen", "the humidifier", "the sauna", "the hood", "the crane", "the fountain", "the christmas tree", "my phone", "the internet", "the cooker", "the stove", "the iron", "the hair dryer"]
CHAT = ["hello", "hi", "hi there", "hey", "good morning", "good evening", "good night", "good afternoon", "how are you", "how are you doing", "how do you do", "what's up", "thanks", "thank you", "thank you very much", "thanks a lot", "that's all", "that's it", "that is all for now", "bye", "goodbye", "see you",
        "see you later", "see you tomorrow", "never mind", "forget it", "forget about it", "cancel that", "nothing", "it's nothing", "okay", "ok", "yes", "no", "yes please", "no thanks", "maybe later", "not now", "wait a second", "hold on", "just a moment", "sorry", "excuse me", "what", "what did you say",
        "i didn't get that", "say that again", "repeat that", "who are you", "what are you", "what is your name", "what's your name", "are you human", "are you a robot", "are you listening", "are you there", "can you hear me", "do you understand me", "what can you do", "help", "help me", "i need help",
        "tell me a joke", "tell me another joke", "tell me a story", "tell me something funny", "sing a song", "sing something", "sing me a lullaby", "make me laugh", "do you like me", "i love you", "do you love me", "i am bored", "i'm tired", "i am hungry", "i'm happy today", "i am sad", "i feel great",
        "what should i eat tonight", "what should i wear today", "do you like music", "do you dream", "how old are you", "where are you from", "who made you", "who built you", "you are great", "you are stupid", "well done", "good job", "nice work", "great", "awesome", "cool", "that was wrong", "you did it wrong",
        "what time is it", "what's the time", "what day is it", "what day is it today", "what is the date", "what year is it", "which month is it", "what's the weather like", "what is the weather", "will it rain tomorrow", "will it rain today", "is it going to snow", "how will the weather be tomorrow",
        "what's the weather forecast", "is it raining outside", "what's the weather going to be like on Sunday", "play some music", "play some jazz", "play the radio", "play my favourite song", "play the next song", "pause the music", "stop the music", "turn up the volume", "turn the volume down", "louder please",
        "skip this song", "volume up", "make it louder", "what's the news", "read me the news", "what happened today", "who won the match", "who won the game yesterday", "what's the score", "show me pictures of cats", "take a picture", "take a photo", "record a video", "send a message", "read my messages", "read my mail",
        "do i have new messages", "check my email", "what's on my calendar", "what's on tv tonight", "open the browser", "open my email", "start the game", "let's play a game", "let's play chess", "flip a coin", "roll a dice", "toss a coin", "count to ten", "count backwards from twenty", "spell banana", "say hello",
        "say something", "say cheese", "where is my phone", "find my keys", "where are my keys", "where am i", "how do i get home", "how far is the station", "is the supermarket open", "when does the shop close", "when does the next bus come", "when is the next train", "is the bank open today", "set a timer",
        "set an alarm", "wake me up", "wake me up tomorrow", "start a timer", "set a timer for ten minutes", "set an alarm for six", "remind me tomorrow", "add milk to the shopping list", "what's on my shopping list", "make a note", "take a note", "write that down", "search the web", "google it", "look it up on the internet",
        "restart", "reboot yourself", "shut yourself down", "go to sleep", "wake up", "update yourself", "be quiet", "shut up", "silence", "quiet please", "come here", "go away", "leave me alone", "follow me", "drive home", "clean the floor", "clean the kitchen", "wash the dishes", "do the laundry", "feed the dog", "feed the cat",
        "water the flowers in Paris", "cook dinner", "make me a coffee", "make me a sandwich", "bring me a beer", "bring me the newspaper", "the meeting is at three", "lunch was great", "dinner is ready", "i am going out", "i'm home", "we are back", "nobody is here", "the kids are asleep", "it's my birthday", "happy birthday",
        "merry christmas", "what's for lunch", "who is at the door", "somebody is at the door", "is anybody home", "how many people are here", "how much does it cost", "how much is a new car", "what's the meaning of life", "is there a god", "do aliens exist", "how tall is the eiffel tower", "why is the sky blue", "why is grass green",
        "what is love", "what is a black hole", "how do magnets work", "how many legs has a spider", "what does photosynthesis mean", "who painted the mona lisa", "who discovered america", "when did the war end", "how many planets are there", "what is the square root of nine", "what is the speed of light", "how heavy is an elephant",
        "paint me a picture", "dance", "smile", "jump", "my name is John", "i live in a small town", "that is a nice colour", "red is my favourite colour", "i like green", "the sky is blue today", "blue is better than yellow", "two plus two", "three times four", "five seconds is not long", "i have two valves and a pump", "an hour has sixty minutes",
        "~lovely day isn't it", "~what's cooking", "~long time no see", "~do you know any riddles"]
GENERAL = ["what is the capital of {place}", "where is {place}", "how far is it to {place}", "how big is {place}", "how many people live in {place}", "what's the weather in {place}", "how warm is it in {place}", "what is the temperature in {place}", "what time is it in {place}", "book a flight to {place}", "book me a hotel in {place}",
           "show me the way to {place}", "who was {name}", "who is {name}", "how old is {name}", "call {name}", "phone {name}", "send {name} a message", "write an email to {name}", "text {name} that i am late", "when is {name} coming", "tell {name} i said hello", "how do i {verb}", "how can i {verb}", "teach me to {verb}",
           "can you {verb}", "what do i need to {verb}", "explain how to {verb}", "i want to {verb}", "what is {a} plus {b}", "what is {a} times {b}", "what's {a} minus {b}", "calculate {a} divided by {b}", "how much is {a} percent of {b}", "convert {a} dollars to euros", "convert {a} miles to kilometers", "translate {noun} into {lang}",
           "what is {noun} in {lang}", "how do you say {noun} in {lang}", "translate good morning to {lang}", "what is a {noun}", "what does {noun} mean", "tell me about the {noun}", "tell me a story about a {noun}", "write a poem about a {noun}", "write a story about the {noun}", "sing a song about my {noun}", "who invented the {noun}",
           "where can i buy a {noun}", "i bought a new {noun}", "my {noun} is broken", "do you like my {noun}", "how much is a {noun}", "i lost my {noun}", "draw me a {noun}", "find a good {noun}", "recommend a {noun}", "the {noun} is nice", "order {food}", "buy {food}", "i would like {food}", "get me {food}", "set an alarm for {clock}",
           "wake me at {clock}", "remind me at {clock} to buy {food}", "meet me at {clock}", "what happens at {clock}", "why is the {noun} so expensive", "when was the {noun} invented", "play a song by {name}", "is {place} a nice place", "who wrote the {noun}", "put {food} on the shopping list", "what is the best {noun}", "spell {noun}",
           "~kindly summarize the {noun}", "~which {noun} would you pick", "~ring up {name}"]
CANNOT = ["dim {d} to {n} percent", "dim {d}", "make {d} brighter", "make {d} darker", "set {d} to {n} degrees", "set {d} to {n} percent", "set {d} to {n}", "open {d} {n} percent" , "turn {d} up a bit", "turn {d} down a bit", "turn up {d}", "turn down {d}", "make {d} faster", "run {d} slower", "change the colour of {d}",
          "make {d} purple", "paint {d}", "in {t} {do}", "{do} in {t}", "{do} at {clock}", "at {clock} {do}", "{do} tomorrow", "{do} tonight", "{do} every day", "{do} every hour", "every {t} {do}", "{do} every morning at {clock}", "remind me to {do}", "remind me at {clock} to {do}", "wait {t} and then {do}", "don't {do}", "do not {do}",
          "please don't {do}", "never {do}", "you must not {do}", "whenever {c}, {do}", "as soon as {c} {do}", "{do} until {c}", "once {c}, {do}", "{do} whenever {c}", "fade {d} in", "measure the current of {d}", "how much power does {d} use", "how long has {d} been on", "how often was {d} on today", "log {q} every minute",
          "send me {q} by mail", "what was {q} yesterday", "what will {q} be tomorrow", "what was {q} last week", "plot {q}", "set {q} to {n}", "raise {q} to {n}", "lower {q} to {n} percent", "rename {d}", "connect {d} to the internet", "randomly blink {d}", "increase {q}", "the day after tomorrow {do}", "{do} after {t}", "after {t} {do}",
          "~set {d} to maximum", "~half an hour before {clock} {do}"]
SPOKEN_OF = ["{d} is really loud", "{d} is broken", "{d} is nice", "i like {d}", "i bought {d} yesterday", "why is {d} so loud", "why is {d} on", "why is {d} off", "who turned on {d}", "who switched off {d}", "who installed {d}", "how do i repair {d}", "how does {d} work", "where is {d}", "what colour is {d}", "how old is {d}",
             "what does {d} cost", "{d} does not work", "{d} looks good", "i think {d} is too old", "we need a new {noun} for {d}", "{d} makes a strange noise", "somebody stole {d}", "what is {d} good for", "tell me about {d}", "tell me a joke about {d}", "write a poem about {d}", "translate {d} into French", "i hate {d}",
             "can i sell {d}", "should i replace {d}", "how do i clean {d}", "how much does {d} weigh", "my neighbour has {d} too", "yesterday i saw {d}", "is {d} expensive", "he said {do}", "how do i say {do} in Spanish", "what happens if i {do}", "i forgot to {do}", "why should i {do}", "i don't know how to {do}", "i was about to {do}",
             "she told me to {do} yesterday", "yesterday you had to {do}", "is it dangerous to {do}", "do you like {d}", "{d} is leaking", "{d} smells", "replace {d}", "fix {d}", "repair {d}", "clean {d}", "buy a new {noun} instead of {d}", "order a spare part for {d}", "what is the meaning of {r}", "explain {r} to me", "why is {r} important",
             "who measures {r}", "{r} is a nice thing", "why is {r} so high", "{d} was expensive", "the {noun} is next to {d}", "i dreamt of {d}", "what a nice {noun}", "{d} is too old to be of use", "my {noun} and {d} look alike", "~{d} is a beauty", "~how loud is {d}"]


def answer(value):
    return json.dumps(value, separators=(",", ":"))


def command(r, kind="train"):
    """One command of a kind: (input, output). Draws again until it belongs there."""
    while True:
        speaker = Speaker(r, kind)
        try:
            text, value = speaker.command()
        except Held:
            continue
        text = " ".join(text.split())
        if not text or len(text) > 200 or held_text(text) == (kind == "train"):
            continue
        if (kind == "phrase" and not speaker.phrases) or (kind == "pair" and not speaker.pairs):
            continue
        return text, answer(value)


def held_out(seed, count):
    """The held-out set: a third each of texts, phrases, pairs; none twice."""
    r, seen, out = random.Random(seed), set(), []
    while len(out) < count:
        kind = ("text", "phrase", "pair")[len(out) % 3]
        text, value = command(r, kind)
        if text.lower() not in seen:
            seen.add(text.lower())
            out.append((kind, text, value))
    return out


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--heldout", action="store_true")
    arg.add_argument("--count", type=int, default=20)
    arg.add_argument("--seed", type=int, default=1)
    arg = arg.parse_args()
    if arg.heldout:
        for kind, text, value in held_out(arg.seed, arg.count):
            print(json.dumps({"input": text, "output": value, "held": kind}, ensure_ascii=False))
        return
    r = random.Random(arg.seed)
    for _ in range(arg.count):
        text, value = command(r)
        print(json.dumps({"input": text, "output": value}, ensure_ascii=False))


if __name__ == "__main__":
    main()
