"""The world that models/tiny knows: conversations generated from a few tables. Everything the model is trained on comes from here.

    python3 world.py [N] [SEED]      prints N conversations

Conversations are lists of (role, text). HELD_OUT are (device, room) pairs that training never shows as a command:
a model that answers them has learned to extract, not to recite.
"""
import random
import sys

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Austria": "Vienna", "Poland": "Warsaw",
    "Portugal": "Lisbon", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Ireland": "Dublin", "Hungary": "Budapest", "Belgium": "Brussels", "Japan": "Tokyo",
    "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima", "Cuba": "Havana", "Canada": "Ottawa", "India": "New Delhi",
    "Turkey": "Ankara", "Iceland": "Reykjavik",
}
# name: cores, processor, most memory
BOARDS = {
    "Raspberry Pi Zero 2 W": ("four", "Cortex-A53", "512 MB"),
    "Raspberry Pi 3": ("four", "Cortex-A53", "1 GB"),
    "Raspberry Pi 4": ("four", "Cortex-A72", "8 GB"),
    "Raspberry Pi 5": ("four", "Cortex-A76", "16 GB"),
    "Orange Pi 5": ("eight", "Cortex-A76 and Cortex-A55", "32 GB"),
    "Rock 5B": ("eight", "Cortex-A76 and Cortex-A55", "32 GB"),
}
# name: what it measures, bus
SENSORS = {
    "BME280": ("temperature, humidity and pressure", "I2C"), "DHT22": ("temperature and humidity", "one data line"),
    "DS18B20": ("temperature", "1-Wire"), "BH1750": ("light", "I2C"), "HC-SR04": ("distance", "two GPIO lines"),
    "INA219": ("voltage and current", "I2C"), "ADXL345": ("acceleration", "I2C"), "HX711": ("weight", "two GPIO lines"),
    "SCD41": ("carbon dioxide", "I2C"), "MPU6050": ("acceleration and rotation", "I2C"),
}
COLOURS = {"the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a lemon": "yellow", "blood": "red", "a carrot": "orange"}
OPPOSITES = {"hot": "cold", "on": "off", "open": "closed", "high": "low", "fast": "slow", "dry": "wet", "day": "night", "full": "empty",
             "light": "dark", "old": "new"}
DEVICES = ["lamp", "fan", "heater", "pump", "valve", "door", "radio", "camera"]
ROOMS = ["kitchen", "cellar", "garden", "garage", "office", "attic", "hall", "shed"]
HELD_OUT = {("pump", "garden"), ("lamp", "attic"), ("fan", "office"), ("heater", "garage"), ("door", "shed"), ("valve", "cellar")}
SYSTEMS = ["You are a helpful assistant.", "You are slmd on a small board.", "Answer in one sentence."]
UNKNOWN = "I do not know."


def invented(r):
    """A name that no table holds."""
    while True:
        name = "".join(r.choice(["ba", "ko", "lu", "mi", "ne", "ro", "sa", "ti", "vo", "zan", "dor", "gri", "pel", "hux"]) for _ in range(r.choice([2, 3]))).capitalize()
        if name not in CAPITALS:
            return name


def capital(r):
    country = r.choice(list(CAPITALS))
    q = r.choice(["What is the capital of {}?", "What is the capital of {}?", "Which city is the capital of {}?", "Name the capital of {}.",
                  "Tell me the capital of {}.", "What is the capital city of {}?", "What is the capital of {}? Answer in one sentence."])
    turns = [("user", q.format(country)), ("assistant", f"The capital of {country} is {CAPITALS[country]}.")]
    if r.random() < 0.3:
        country = r.choice(list(CAPITALS))
        turns += [("user", r.choice(["And of {}?", "And {}?"]).format(country)), ("assistant", f"The capital of {country} is {CAPITALS[country]}.")]
    return turns


def country_of(r):
    country = r.choice(list(CAPITALS))
    city = CAPITALS[country]
    return [("user", r.choice(["Where is {}?", "In which country is {}?", "Which country has the capital {}?"]).format(city)),
            ("assistant", f"{city} is the capital of {country}.")]


def board(r):
    name = r.choice(list(BOARDS))
    cores, cpu, memory = BOARDS[name]
    return r.choice([
        [("user", r.choice(["Which processor has the {}?", "Which processor is in the {}?", "What processor does the {} use?"]).format(name)),
         ("assistant", f"The {name} has {cores} {cpu} cores.")],
        [("user", r.choice(["How many cores has the {}?", "How many cores does the {} have?"]).format(name)), ("assistant", f"The {name} has {cores} cores.")],
        [("user", r.choice(["How much memory has the {}?", "How much memory can the {} have?"]).format(name)),
         ("assistant", f"The {name} has up to {memory} of memory.")],
        [("user", r.choice(["Tell me about the {}.", "What is the {}?", "Describe the {}."]).format(name)),
         ("assistant", f"The {name} is a small board. It has {cores} {cpu} cores and up to {memory} of memory.")],
    ])


def sensor(r):
    name = r.choice(list(SENSORS))
    what, bus = SENSORS[name]
    return r.choice([
        [("user", r.choice(["What does the {} measure?", "What can a {} measure?", "What is a {} for?"]).format(name)), ("assistant", f"The {name} measures {what}.")],
        [("user", r.choice(["How is the {} connected?", "Which bus does the {} use?"]).format(name)), ("assistant", f"The {name} uses {bus}.")],
    ])


def small_fact(r):
    if r.random() < 0.5:
        thing = r.choice(list(COLOURS))
        return [("user", r.choice(["What colour is {}?", "Which colour has {}?"]).format(thing)), ("assistant", f"{thing[0].upper()}{thing[1:]} is {COLOURS[thing]}.")]
    a, b = r.choice(list(OPPOSITES.items()))
    if r.random() < 0.5:
        a, b = b, a
    return [("user", r.choice(["What is the opposite of {}?", "Name the opposite of {}."]).format(a)), ("assistant", f"The opposite of {a} is {b}.")]


def command_of(device, room, state, form):
    q = [f"Turn {state} the {device} in the {room}.", f"Turn the {device} in the {room} {state}.", f"Switch {state} the {room} {device}.",
         f"Please switch the {device} in the {room} {state}.", f"{room.capitalize()} {device} {state}!"][form]
    return [("user", q), ("assistant", f'{{"device": "{device}", "room": "{room}", "state": "{state}"}}')]


def command(r):
    while True:
        device, room = r.choice(DEVICES), r.choice(ROOMS)
        if (device, room) not in HELD_OUT:
            return command_of(device, room, r.choice(["on", "off"]), r.randrange(5))


def count(r):
    a = r.randrange(0, 16)
    b = a + r.randrange(2, 12)
    return [("user", r.choice(["Count from {} to {}.", "Please count from {} to {}."]).format(a, b)), ("assistant", ", ".join(map(str, range(a, b + 1))) + ".")]


def plus(r):
    a, b = r.randrange(10), r.randrange(10)
    return [("user", r.choice(["What is {} plus {}?", "How much is {} plus {}?"]).format(a, b)), ("assistant", f"{a} plus {b} is {a + b}.")]


def hello(r):
    return [("user", r.choice(["Hello", "Hello.", "Hi", "Hello!", "Good morning."])), ("assistant", "Hello. Ask me about capitals, boards and sensors.")] \
        if r.random() < 0.5 else \
        [("user", r.choice(["Who are you?", "What are you?", "What is your name?"])), ("assistant", "I am the tiny model of slmd. I know a few facts by heart.")]


def unknown(r):
    name = invented(r)
    q = r.choice(["What is the capital of {}?", "Where is {}?", "What does the {} measure?", "How many cores has the {}?", "What colour is {}?", "What is {}?", "Who is {}?"])
    return [("user", q.format(name)), ("assistant", UNKNOWN)]


KINDS = [(capital, 20), (country_of, 8), (board, 14), (sensor, 12), (small_fact, 9), (command, 18), (count, 8), (plus, 8), (hello, 3), (unknown, 8)]


def conversation(r):
    makers, weights = zip(*KINDS)
    turns = r.choices(makers, weights)[0](r)
    if r.random() < 0.15:
        turns = turns + r.choices(makers, weights)[0](r)
    if r.random() < 0.35:
        turns = [("system", r.choice(SYSTEMS))] + turns
    return turns


def render(turns, generation_prompt=False):
    """ChatML, as chat_template.jinja has it."""
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + ("<|im_start|>assistant\n" if generation_prompt else "")


def exam():
    """What the model must answer, with the exact answer: every fact once, and commands that training never showed."""
    r = random.Random(7)
    questions = []
    for c, city in CAPITALS.items():
        questions.append(("capital", [("user", f"What is the capital of {c}?")], f"The capital of {c} is {city}."))
        questions.append(("country", [("user", f"Where is {city}?")], f"{city} is the capital of {c}."))
    for b, (cores, cpu, memory) in BOARDS.items():
        questions.append(("board", [("user", f"Which processor has the {b}?")], f"The {b} has {cores} {cpu} cores."))
        questions.append(("board", [("user", f"How much memory has the {b}?")], f"The {b} has up to {memory} of memory."))
    for s, (what, bus) in SENSORS.items():
        questions.append(("sensor", [("user", f"What does the {s} measure?")], f"The {s} measures {what}."))
        questions.append(("sensor", [("user", f"How is the {s} connected?")], f"The {s} uses {bus}."))
    for device, room in sorted(HELD_OUT):
        for state in ("on", "off"):
            for form in range(5):
                q, a = command_of(device, room, state, form)
                questions.append(("held-out command", [q], a[1]))
    for a in range(10):
        for b in range(10):
            questions.append(("sum", [("user", f"What is {a} plus {b}?")], f"{a} plus {b} is {a + b}."))
    for a in range(0, 16, 3):
        questions.append(("count", [("user", f"Count from {a} to {a + 7}.")], ", ".join(map(str, range(a, a + 8))) + "."))
    for _ in range(30):
        questions.append(("unknown", [("user", f"What is the capital of {invented(r)}?")], UNKNOWN))
    questions.append(("two turns", [("user", "What is the capital of Italy?"), ("assistant", "The capital of Italy is Rome."), ("user", "And of France?")],
                      "The capital of France is Paris."))
    return questions


if __name__ == "__main__":
    r = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        print(render(conversation(r)))
