#!/usr/bin/env python3
"""Documents whose fields are known: invoices (English, German), sensor logs, e-mails.

    documents.py COUNT [SEED]

Writes one a line: {"kind", "text", "fields", "planted": [{"what", "fields", "text"?, "plausible"?}]}. A planted one has a
copy of the fields with an error as a model makes it; where it has a text, the document itself is wrong and the fields are what it says.
A plausible one contradicts nothing: only who reads the text sees it. The checks of a kind are documents/KIND.toml.
"""
import copy
import datetime
import json
import random
import sys

ITEMS = ["Bolt M8", "Hex nut M8", "Flat gasket 40 mm", "Ball valve 1/2\"", "Relay 24 V", "Terminal block", "O-ring", "Cable gland PG11", "Level sensor", "Pump seal"]
TEILE = ["Schraube M8", "Sechskantmutter", "Flachdichtung 40 mm", "Kugelhahn 1/2\"", "Relais 24 V", "Reihenklemme", "O-Ring", "Kabelverschraubung", "Füllstandsgeber", "Gleitringdichtung"]
FIRMS = ["Northfield Supplies Ltd.", "Harbour & Sons", "Acme Fittings Inc.", "O'Brien Pumps", "Delta-V Controls"]
FIRMEN = ["Müller & Söhne GmbH", "Nordwerk Armaturen AG", "Elektro Großmann", "Pumpen-Vogt KG", "Süßwasser Technik GmbH"]
PEOPLE = ["Jane Miller", "Tomás Ortega", "Anna-Lena Weiß", "Li Wei", "Pierre Durand", "Ewa Nowak"]


def iban(country, bban):
    digits = "".join(str(int(c, 36)) for c in bban + country + "00")
    return "%s%02d%s" % (country, 98 - int(digits) % 97, bban)


def ean(twelve):
    return twelve + str(-sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(twelve)) % 10)


def grouped(text):
    return " ".join(text[i:i + 4] for i in range(0, len(text), 4))


def number(r, digits):
    return "".join(r.choice("0123456789") for _ in range(digits))


def other_digit(r, text):
    """One digit is another one."""
    at = r.choice([i for i, c in enumerate(text) if c.isdigit()])
    return text[:at] + r.choice([d for d in "0123456789" if d != text[at]]) + text[at + 1:]


def transposed(r, text):
    """Two digits in a row have changed places; None when none differ."""
    places = [i for i in range(len(text) - 1) if text[i:i + 2].isdigit() and text[i] != text[i + 1]]
    if not places:
        return None
    at = r.choice(places)
    return text[:at] + text[at + 1] + text[at] + text[at + 2:]


def cents(value, german):
    """1234.50 as a document has it."""
    text = "{:,.2f}".format(value / 100)
    return text.replace(",", "x").replace(".", ",").replace("x", ".") if german else text


class Document:
    def __init__(self, kind, text, fields):
        self.kind, self.text, self.fields, self.planted = kind, text, fields, []

    def plant(self, what, change, old=None, new=None, plausible=False):
        """change(fields) makes the error; old and new: the text has it, too."""
        fields = copy.deepcopy(self.fields)
        change(fields)
        if fields == self.fields:
            return
        error = {"what": what, "fields": fields}
        if old is not None:
            assert old in self.text, (old, self.text)
            error["text"] = self.text.replace(old, new, 1)
        if plausible:
            error["plausible"] = True
        self.planted.append(error)


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(fields):
        for step in path:
            fields = fields[step]
        fields[last] = value
    return change


def swap(a, b):
    def change(fields):
        fields[a], fields[b] = fields[b], fields[a]
    return change


def invoice(r, german):
    day = datetime.date(2023, 1, 1) + datetime.timedelta(r.randrange(900))
    due = day + datetime.timedelta(r.choice([7, 14, 30]))
    form = "%d.%m.%Y" if german else "%m/%d/%Y"
    lines = []
    for item in r.sample(TEILE if german else ITEMS, r.randint(2, 5)):
        quantity, price = r.randint(2, 60), r.randrange(105, 40000)
        lines.append((item, quantity, price, quantity * price))
    net = sum(line[3] for line in lines)
    tax = (net * (19 if german else 20) + 50) // 100
    firm = r.choice(FIRMEN if german else FIRMS)
    account = iban("DE", number(r, 18)) if german else iban("GB", r.choice(["NWBK", "BARC", "LOYD"]) + number(r, 14))
    # As texts where the document is German, as numbers where it is English.
    money = (lambda v: cents(v, True)) if german else (lambda v: v / 100)
    currency = "EUR" if german else "GBP"
    fields = {
        "number": "%s-%d-%s" % ("RE" if german else "INV", day.year, number(r, 5)), "supplier": firm, "date": day.strftime(form), "due": due.strftime(form),
        "iban": grouped(account), "currency": currency,
        "lines": [{"item": i, "quantity": q, "price": money(p), "amount": money(a)} for i, q, p, a in lines],
        "net": money(net), "tax": money(tax), "total": money(net + tax)}
    show = lambda v: cents(v, german)
    rows = [r.choice(["%-22s %4d  %10s  %12s", "%s | %d | %s | %s", "%s: %d x %s = %s"])] * len(lines)
    rows = "\n".join(row % (i, q, show(p), show(a)) for row, (i, q, p, a) in zip(rows, lines))
    f = fields
    if german:
        text = ("%s\nRechnung Nr. %s vom %s\n\n%s\n\nNettobetrag %s %s\nzzgl. 19 %% USt. %s %s\nRechnungsbetrag %s %s\n\nZahlbar bis %s auf das Konto %s." %
                (firm, f["number"], f["date"], rows, show(net), currency, show(tax), currency, show(net + tax), currency, f["due"], f["iban"]))
    elif r.random() < 0.5:
        text = ("INVOICE %s\n%s\nDate: %s   Due: %s\n\n%s\n\nSubtotal %s\nVAT 20%% %s\nTOTAL %s %s\nIBAN %s" %
                (f["number"], firm, f["date"], f["due"], rows, show(net), show(tax), currency, show(net + tax), f["iban"]))
    else:
        text = ("%s\n\nPlease pay %s%s by %s to %s.\nInvoice %s of %s:\n%s\nNet %s, VAT %s.\nThank you." %
                (firm, currency, show(net + tax), f["due"], f["iban"], f["number"], f["date"], rows, show(net), show(tax)))
    d = Document("invoice_de" if german else "invoice_en", text, fields)

    # What a model errs in.
    wrong = net + tax + r.choice([-1, 1]) * r.choice([10, 90, 100, 1000, 900])
    d.plant("total off by a digit", put("total", money(wrong)))
    d.plant("net for total", put("total", f["net"]))
    d.plant("net and tax change places", swap("net", "tax"))
    d.plant("dates change places", swap("date", "due"))
    d.plant("wrong digit in the IBAN", put("iban", other_digit(r, f["iban"])))
    d.plant("IBAN cut short", put("iban", f["iban"][:-r.randint(1, 4)]))
    d.plant("number cut short", put("number", f["number"][:-1]))
    d.plant("wrong digit in the number", put("number", f["number"][:-5] + other_digit(r, f["number"][-5:])))
    d.plant("invented supplier", put("supplier", r.choice([x for x in FIRMEN + FIRMS if x != firm])))
    d.plant("invented due date", put("due", (due + datetime.timedelta(1)).strftime(form)))
    d.plant("other currency", put("currency", "USD"))
    d.plant("a line is missing", lambda x: x["lines"].pop())
    d.plant("amount of another line", put("lines", 0, "amount", f["lines"][1]["amount"]))
    d.plant("price of another line", put("lines", 0, "price", f["lines"][1]["price"]))
    d.plant("decimals lost", put("lines", 0, "amount", money(lines[0][3] * 100)))
    d.plant("items change places", lambda x: (x["lines"][0].update(item=f["lines"][1]["item"]), x["lines"][1].update(item=f["lines"][0]["item"])), plausible=True)
    # What a document is wrong in.
    d.plant("document: total", put("total", money(wrong)), show(net + tax), show(wrong))
    bad = other_digit(r, f["iban"])
    d.plant("document: IBAN", put("iban", bad), f["iban"], bad)
    bad = transposed(r, f["iban"])
    if bad:
        d.plant("document: IBAN transposed", put("iban", bad), f["iban"], bad)
    early = (day - datetime.timedelta(r.randint(1, 60))).strftime(form)
    d.plant("document: due before the date", put("due", early), f["due"], early)
    no_day = "30.02.%d" % due.year if german else "02/30/%d" % due.year
    d.plant("document: no such day", put("due", no_day), f["due"], no_day)
    bad = lines[0][3] + r.choice([-1, 1]) * r.choice([10, 100, 900])
    d.plant("document: amount", put("lines", 0, "amount", money(bad)), rows, rows.replace(show(lines[0][3]), show(bad), 1))
    return d


def sensor(r):
    station = "%s-%02d" % (r.choice(["NORTH", "TANK", "ROOF", "PUMP"]), r.randint(1, 40))
    start = datetime.datetime(2024, 1, 1) + datetime.timedelta(minutes=10 * r.randrange(50000))
    base = r.choice([-120, 50, 215, 640])
    readings = [{"time": (start + datetime.timedelta(minutes=10 * i)).strftime("%Y-%m-%d %H:%M"), "temperature": (base + r.randint(-60, 60)) / 10,
                 "humidity": r.randint(5, 98)} for i in range(r.randint(3, 6))]
    hottest = max(readings, key=lambda x: x["temperature"])
    limit = hottest["temperature"] - r.randint(1, 9) / 10
    fields = {"station": station, "readings": readings, "alarm": {"time": hottest["time"], "temperature": hottest["temperature"], "limit": round(limit, 1)}}
    row = r.choice(["%s  %s °C  %d %%", "%s temp=%s °C rh=%d%%", "[%s] T %s °C, RH %d %%"])
    rows = [row % (x["time"], x["temperature"], x["humidity"]) for x in readings]
    alarm = "ALARM %s: %s °C is above the limit of %s °C" % (hottest["time"], hottest["temperature"], fields["alarm"]["limit"])
    d = Document("sensor", "Station %s\n%s\n%s\n" % (station, "\n".join(rows), alarm), fields)

    i = r.randrange(len(readings))
    t = readings[i]["temperature"]
    others = {x["temperature"] for x in readings} | {fields["alarm"]["limit"]}
    if -t not in others:
        d.plant("sign lost", put("readings", i, "temperature", -t))
    if t == int(t * 10) / 10 and t * 10 not in others:
        d.plant("decimal point lost", put("readings", i, "temperature", round(t * 10)))
    if round(t + 0.3, 1) not in others:
        d.plant("reading that is not there", put("readings", i, "temperature", round(t + 0.3, 1)))
    d.plant("humidity for temperature", put("readings", i, "temperature", readings[i]["humidity"]))
    d.plant("invented station", put("station", station[:-1] + str((int(station[-1]) + 1) % 10)))
    d.plant("station cut short", put("station", station[:-1]))
    d.plant("alarm: limit and temperature change places", lambda x: x["alarm"].update(limit=x["alarm"]["temperature"], temperature=x["alarm"]["limit"]))
    d.plant("times change places", lambda x: swap_times(x["readings"]))
    d.plant("alarm at a time that is not there", put("alarm", "time", (start - datetime.timedelta(minutes=10)).strftime("%Y-%m-%d %H:%M")))
    d.plant("readings change places", lambda x: swap_temperatures(x["readings"]), plausible=True)
    d.plant("reading left out", lambda x: x["readings"].pop(0), plausible=True)

    for what, value in (("document: above what it can measure", r.randint(8600, 32767) / 100), ("document: below what it can measure", -r.randint(410, 999) / 10)):
        d.plant(what, put("readings", i, "temperature", value), rows[i], row % (readings[i]["time"], value, readings[i]["humidity"]))
    d.plant("document: humidity", put("readings", i, "humidity", 101 + i), rows[i], row % (readings[i]["time"], t, 101 + i))
    if t not in [x["temperature"] for x in readings if x is not readings[i]] + list(fields["alarm"].values()):
        d.plant("document: other unit", lambda x: x["readings"].append(dict(readings[i], time=readings[-1]["time"], temperature=99.5)), alarm, "99.5 °F\n" + alarm)
    early = (start - datetime.timedelta(1)).strftime("%Y-%m-%d %H:%M")
    d.plant("document: clock set back", put("readings", 1, "time", early), rows[1], row % (early, readings[1]["temperature"], readings[1]["humidity"]))
    no_time = readings[0]["time"][:11] + "24:10"
    d.plant("document: no such time", put("readings", 0, "time", no_time), rows[0], row % (no_time, readings[0]["temperature"], readings[0]["humidity"]))
    d.plant("document: alarm below its limit", put("alarm", "limit", round(hottest["temperature"] + 1.5, 1)), "limit of %s °C" % fields["alarm"]["limit"],
            "limit of %s °C" % round(hottest["temperature"] + 1.5, 1))
    return d


def swap_times(readings):
    readings[0]["time"], readings[-1]["time"] = readings[-1]["time"], readings[0]["time"]


def swap_temperatures(readings):
    readings[0]["temperature"], readings[1]["temperature"] = readings[1]["temperature"], readings[0]["temperature"]


def mail(r):
    ordered = datetime.date(2024, 1, 1) + datetime.timedelta(r.randrange(700))
    delivery = ordered + datetime.timedelta(r.randint(2, 40))
    code = ean(r.choice(["400638", "501234", "761303"]) + number(r, 6))
    topic, said = r.choice([("complaint", "the seal leaked after two days"), ("complaint", "The display stays dark"), ("order", "we need them before the holidays"),
                            ("return", "they don’t fit our housing"), ("return", "the wrong size was shipped")])
    sender, quantity = r.choice(PEOPLE), r.randint(101, 480)
    fields = {"sender": sender, "topic": topic, "order": "PO" + number(r, 7), "ordered": ordered.isoformat(), "delivery": delivery.isoformat(), "ean": code,
              "quantity": quantity, "summary": "%s writes: “%s.”" % (sender, said)}
    f = fields
    body = r.choice([
        "Hello,\nabout order {order} of {ordered} ({quantity} pieces, EAN {ean}): {said}.\nThe delivery was agreed for {delivery}.",
        "Dear team,\nplease look at {order}. On {ordered} we ordered {quantity} pieces of EAN {ean},\nto be delivered on {delivery}; {said}. Call me on 040 {phone}."])
    text = "From: %s <%s@example.com>\nSubject: %s\n\n%s\n\nRegards\n%s\n" % (
        sender, sender.split()[0].lower(), f["order"], body.format(said=said.replace(" ", "\n", 1), phone=number(r, 4), **f), sender)
    d = Document("mail", text, fields)

    d.plant("invented sender", put("sender", r.choice([p for p in PEOPLE if p != sender])))
    d.plant("order cut short", put("order", f["order"][:-1]))
    d.plant("wrong digit in the order", put("order", other_digit(r, f["order"])))
    d.plant("wrong digit in the EAN", put("ean", other_digit(r, code)))
    d.plant("EAN cut short", put("ean", code[:12]))
    d.plant("order for EAN", put("ean", f["order"]))
    d.plant("dates change places", swap("ordered", "delivery"))
    d.plant("invented date", put("delivery", (delivery + datetime.timedelta(1)).isoformat()))
    d.plant("no such day", put("delivery", "%d-02-30" % delivery.year))
    d.plant("quantity cut short", put("quantity", quantity // 10))
    d.plant("topic of its own", put("topic", "question"))
    d.plant("not what was said", put("summary", f["summary"].replace(said.split()[1], "probably " + said.split()[1])))
    d.plant("quotation without end", put("summary", f["summary"][:-2]))
    d.plant("other topic", put("topic", "order" if topic != "order" else "return"), plausible=True)

    bad = other_digit(r, code)
    d.plant("document: EAN", put("ean", bad), code, bad)
    bad = transposed(r, code)
    if bad:
        d.plant("document: EAN transposed", put("ean", bad), code, bad)
    early = (ordered - datetime.timedelta(r.randint(1, 30))).isoformat()
    d.plant("document: delivery before the order", put("delivery", early), f["delivery"], early)
    no_day = "%d-04-31" % delivery.year
    d.plant("document: no such day", put("delivery", no_day), f["delivery"], no_day)
    return d


def documents(count, seed):
    r = random.Random(seed)
    for i in range(count):
        d = (lambda: invoice(r, False), lambda: invoice(r, True), lambda: sensor(r), lambda: mail(r))[i % 4]()
        # Of some documents only the right fields.
        keep = r.sample(d.planted, min(len(d.planted), 8)) if r.random() < 0.8 else []
        yield {"kind": d.kind, "text": d.text, "fields": d.fields, "planted": keep}


if __name__ == "__main__":
    for document in documents(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1):
        print(json.dumps(document, ensure_ascii=False))
