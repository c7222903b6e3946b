"""Everything that the page says, in English, French and Arabic.

What stands still is translated by the browser, through gradio's i18n (`TRANSLATIONS`). What is said
of a photo is written by the server (`Language.say`), in the language that the browser asks for, so
that both are always the same.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

LANGUAGES = ("en", "fr", "ar")
_RIGHT_TO_LEFT = {"ar"}

# key: English, French, Arabic
_SAID: dict[str, tuple[str, str, str]] = {
    # The frame of the page
    "heading": (
        "# Which car is that?\nGive it a photo. It names the make, the model and the year, and says how sure it is.",
        "# Quelle est cette voiture ?\nDonnez une photo. Marque nomme la marque, le modèle et l’année, et dit à quel point il en est sûr.",
        "# ما هذه السيارة؟\nأعطه صورة، فيذكر الصانع والطراز والسنة، ويقول مدى تأكده.",
    ),
    "tab_photo": ("One photo", "Une photo", "صورة واحدة"),
    "tab_many": ("Many photos", "Plusieurs photos", "صور كثيرة"),
    "tab_model": ("Model", "Modèle", "النموذج"),
    "photo": ("Photo of a car", "Photo d’une voiture", "صورة سيارة"),
    "another": ("Another photo", "Une autre photo", "صورة أخرى"),
    "privacy": (
        "Your photo is deleted from the server within two hours. Nobody else sees it.",
        "Votre photo est effacée du serveur en moins de deux heures. Personne d’autre ne la voit.",
        "تُحذف صورتك من الخادم خلال ساعتين، ولا يراها أحد غيرك.",
    ),
    # The answer
    "sure_percent": ("{percent} sure", "sûr à {percent}", "متأكد بنسبة {percent}"),
    "over": ("over {percent}", "plus de {percent}", "أكثر من {percent}"),
    "under": ("under {percent}", "moins de {percent}", "أقل من {percent}"),
    "percent": ("{number}%", "{number} %", "{number}%"),
    "verdict_sure": ("Sure", "Sûr", "مؤكد"),
    "verdict_check": ("Please check", "À vérifier", "يرجى التحقق"),
    "verdict_no_car": ("This is not a car", "Ce n’est pas une voiture", "هذه ليست سيارة"),
    "verdict_inside": (
        "This is the inside or a part of a car",
        "C’est l’intérieur ou une partie d’une voiture",
        "هذا داخل سيارة أو جزء منها",
    ),
    "verdict_unknown": (
        "This is a car I do not know",
        "C’est une voiture que je ne connais pas",
        "هذه سيارة لا أعرفها",
    ),
    "next_no_car": (
        "Try a photo in which the whole car can be seen, or draw a frame around it.",
        "Essayez une photo où l’on voit toute la voiture, ou tracez un cadre autour d’elle.",
        "جرّب صورة تظهر فيها السيارة كلها، أو ارسم إطارًا حولها.",
    ),
    "next_inside": (
        "Take a photo of the car from outside, all of it in the picture.",
        "Photographiez la voiture de l’extérieur, en entier.",
        "صوّر السيارة من الخارج بحيث تظهر كاملة.",
    ),
    "next_unknown": (
        "It may be one that is not in the list under “Model”. A photo from the front or the "
        "rear sometimes helps.",
        "Elle n’est peut-être pas dans la liste sous « Modèle ». Une photo de l’avant ou de "
        "l’arrière aide parfois.",
        "قد لا تكون في القائمة تحت «النموذج». تساعد أحيانًا صورة من الأمام أو الخلف.",
    ),
    "backed_off": (
        "Sure of this much only. It looks most like {label}.",
        "Sûr de cela seulement. Elle ressemble le plus à {label}.",
        "متأكد من هذا فقط. وهي أشبه ما تكون بـ {label}.",
    ),
    "unfamiliar": (
        "It may also be a car that I do not know.",
        "C’est peut-être aussi une voiture que je ne connais pas.",
        "وقد تكون أيضًا سيارة لا أعرفها.",
    ),
    "perhaps": ("Perhaps {label}", "Peut-être {label}", "ربما {label}"),
    "make": ("Make", "Marque", "الصانع"),
    "model": ("Model", "Modèle", "الطراز"),
    "year": ("Year", "Année", "السنة"),
    "not_in_label": ("not known", "inconnue", "غير معروف"),
    "most_likely": ("Most likely", "Les plus probables", "الأرجح"),
    "one_of": (
        "One of these {count}, right {times} times in 100: {labels}.",
        "L’une de ces {count}, juste {times} fois sur 100 : {labels}.",
        "واحدة من هذه الـ{count}، صحيح {times} مرة من كل 100: {labels}.",
    ),
    "and_more": ("and {count} more", "et {count} autres", "و{count} أخرى"),
    "differ_year": (
        "They are the same model; only the year differs.",
        "C’est le même modèle ; seule l’année diffère.",
        "الطراز نفسه، وتختلف السنة فقط.",
    ),
    "differ_model": (
        "They are all {make}; model or year differ. “Why” shows what tells two of them apart.",
        "Ce sont toutes des {make} ; modèle ou année diffèrent. « Pourquoi » montre ce qui en "
        "distingue deux.",
        "كلها {make}، ويختلف الطراز أو السنة. تحت «لماذا» ما يميّز بين اثنتين منها.",
    ),
    "only_among": (
        "Chosen among {catalogue} only.",
        "Choisi parmi {catalogue} seulement.",
        "اختير من بين {catalogue} فقط.",
    ),
    "uncalibrated": (
        "This checkpoint was never calibrated; take its percentages with care.",
        "Ce modèle n’a jamais été calibré ; ses pourcentages sont à prendre avec prudence.",
        "لم تُعايَر نسب هذا النموذج قط، فخذها بحذر.",
    ),
    "measured": (
        "Of held-out answers this sure, {percent} were right.",
        "Parmi des réponses de test aussi sûres, {percent} étaient justes.",
        "من الإجابات المماثلة في الاختبار كانت {percent} صحيحة.",
    ),
    "copy": ("Copy", "Copier", "نسخ"),
    "copied": ("Copied", "Copié", "تم النسخ"),
    "share": ("Share", "Partager", "مشاركة"),
    "save_picture": ("Save picture", "Enregistrer l’image", "حفظ الصورة"),
    # The photo with its cars
    "car_number": ("Car {number}", "Voiture {number}", "السيارة {number}"),
    "cars_found": (
        "{count} cars found. Tap a number to name another one.",
        "{count} voitures trouvées. Touchez un numéro pour en nommer une autre.",
        "عُثر على {count} سيارات. المس رقمًا لتسمية أخرى.",
    ),
    "draw": ("Draw a frame", "Tracer un cadre", "ارسم إطارًا"),
    "draw_hint": (
        "Drag over the car. With keys: arrows move the frame, Shift and arrows size it, Enter names the car.",
        "Faites glisser sur la voiture. Au clavier : les flèches déplacent le cadre, Maj et flèches en changent la taille, Entrée nomme la voiture.",
        "اسحب فوق السيارة. بلوحة المفاتيح: الأسهم تحرك الإطار، ومع Shift تغيّر حجمه، وEnter يسمّي السيارة.",
    ),
    "photo_alt": ("Your photo", "Votre photo", "صورتك"),
    # Why
    "why": ("Why this answer", "Pourquoi cette réponse", "لماذا هذه الإجابة"),
    "why_class": ("What speaks for", "Ce qui parle pour", "ما يدل على"),
    "why_not": ("and not for", "et non pour", "وليس على"),
    "why_not_none": ("(any other)", "(toute autre)", "(أي سيارة أخرى)"),
    "why_read": (
        "Bright is where the network found what speaks for this answer (Grad-CAM). It shows where it "
        "looked, not what it understood.",
        "En clair, là où le réseau a trouvé ce qui parle pour cette réponse (Grad-CAM). On voit où il "
        "a regardé, pas ce qu’il a compris.",
        "المضيء هو حيث وجدت الشبكة ما يدل على هذه الإجابة (Grad-CAM). يُظهر أين نظرت، لا ما فهمت.",
    ),
    "why_read_not": (
        "Bright is what speaks for the first and not for the second (Finer-CAM).",
        "En clair, ce qui parle pour la première et non pour la seconde (Finer-CAM).",
        "المضيء هو ما يدل على الأولى دون الثانية (Finer-CAM).",
    ),
    "before_after": ("Compare with the photo", "Comparer avec la photo", "قارن بالصورة"),
    "opacity": ("Opacity", "Opacité", "العتامة"),
    # A smaller choice
    "catalogue": ("Only some cars", "Certaines voitures seulement", "بعض السيارات فقط"),
    "catalogue_label": (
        "Makes, models, years or markets",
        "Marques, modèles, années ou marchés",
        "صانعون أو طرازات أو سنوات أو أسواق",
    ),
    "catalogue_info": (
        "The answer is then one of these. Type your own, such as 2005-2012.",
        "La réponse est alors l’une d’elles. Tapez la vôtre, par exemple 2005-2012.",
        "تكون الإجابة حينئذ واحدة منها. اكتب ما تريد، مثل 2005-2012.",
    ),
    # What the seller says
    "check": ("Check what the seller says", "Vérifier l’annonce", "تحقق مما يقوله البائع"),
    "check_label": ("The seller says", "Le vendeur dit", "يقول البائع"),
    "check_button": ("Check", "Vérifier", "تحقق"),
    "agrees": ("The photo agrees", "La photo concorde", "الصورة توافق"),
    "contradicts": ("The photo contradicts", "La photo contredit", "الصورة تناقض"),
    "cannot tell": ("Cannot tell", "Impossible à dire", "لا يمكن الجزم"),
    "check_shows": ("The photo shows {label}.", "La photo montre {label}.", "تُظهر الصورة {label}."),
    "check_may": (
        "It may show {label}, which is not sure enough either way.",
        "Elle montre peut-être {label}, sans certitude suffisante.",
        "ربما تُظهر {label}، دون تأكد كافٍ.",
    ),
    "check_unknown": (
        "No known car is called “{text}”.",
        "Aucune voiture connue ne s’appelle « {text} ».",
        "لا توجد سيارة معروفة باسم «{text}».",
    ),
    "check_model_unknown": (
        "It does not know this model, so the photo cannot refute it.",
        "Il ne connaît pas ce modèle ; la photo ne peut donc pas le réfuter.",
        "لا يعرف هذا الطراز، فلا يمكن للصورة أن تنفيه.",
    ),
    "check_no_car": (
        "The photo shows no car that could be compared.",
        "La photo ne montre aucune voiture à comparer.",
        "لا تُظهر الصورة سيارة يمكن مقارنتها.",
    ),
    # Facts
    "facts": ("Facts", "Fiche technique", "المواصفات"),
    "facts_none": (
        "The table of specifications has no such car.",
        "La table des fiches n’a pas cette voiture.",
        "لا تضم قائمة المواصفات هذه السيارة.",
    ),
    "facts_of": ("{car}, from {source}", "{car}, d’après {source}", "{car}، من {source}"),
    "facts_other_year": (
        "Another year than that of the photo.",
        "Une autre année que celle de la photo.",
        "سنة غير سنة الصورة.",
    ),
    "facts_newest": (
        "The photo tells no year; this is the newest.",
        "La photo ne dit pas l’année ; c’est la plus récente.",
        "لا تدل الصورة على السنة، وهذه أحدثها.",
    ),
    "facts_other_body": (
        "Without regard to the body style.",
        "Sans tenir compte de la carrosserie.",
        "بغض النظر عن نوع الهيكل.",
    ),
    # Feedback
    "feedback": ("Is it right?", "Est-ce juste ?", "هل هي صحيحة؟"),
    "feedback_right": ("It is right", "C’est juste", "صحيحة"),
    "feedback_is": ("It is a …", "C’est une …", "إنها …"),
    "feedback_photo": (
        "Keep my photo too, so that the model can learn from it",
        "Garder aussi ma photo, pour que le modèle en apprenne",
        "احتفظوا بصورتي أيضًا ليتعلم منها النموذج",
    ),
    "feedback_send": ("Send", "Envoyer", "إرسال"),
    "feedback_thanks": ("Thank you, kept.", "Merci, c’est noté.", "شكرًا، تم الحفظ."),
    "feedback_which": (
        "Say which car it is.",
        "Dites quelle voiture c’est.",
        "اذكر أي سيارة هي.",
    ),
    # The last answers
    "history": ("Your last answers", "Vos dernières réponses", "إجاباتك الأخيرة"),
    "history_where": (
        "Kept in this browser only.",
        "Gardées dans ce navigateur seulement.",
        "محفوظة في هذا المتصفح فقط.",
    ),
    "history_none": ("None yet.", "Aucune pour l’instant.", "لا شيء بعد."),
    "forget": ("Forget them", "Les oublier", "انسها"),
    # Many photos
    "many_limits": (
        "Up to 60 photos, or a zip of up to 200, 50 MB together",
        "Jusqu’à 60 photos, ou un zip de 200 au plus, 50 Mo en tout",
        "حتى 60 صورة، أو ملف zip فيه 200 على الأكثر، 50 م.ب. في المجموع",
    ),
    "many_files": ("Photos", "Photos", "الصور"),
    "many_are": ("These photos are", "Ces photos montrent", "هذه الصور"),
    "many_each": ("of different cars", "des voitures différentes", "لسيارات مختلفة"),
    "many_one": ("of the same car", "la même voiture", "للسيارة نفسها"),
    "many_start": ("Name the cars", "Nommer les voitures", "سمِّ السيارات"),
    "many_progress": ("{done} of {count}", "{done} sur {count}", "{done} من {count}"),
    "many_photo": ("Photo", "Photo", "الصورة"),
    "many_answer": ("Answer", "Réponse", "الإجابة"),
    "many_verdict": ("Verdict", "Verdict", "الحكم"),
    "many_correction": ("Correction", "Correction", "التصحيح"),
    "many_filter_all": ("All {count}", "Toutes ({count})", "الكل ({count})"),
    "many_filter_check": ("Please check ({count})", "À vérifier ({count})", "للتحقق ({count})"),
    "many_one_answer": (
        "From {count} photos of one car",
        "D’après {count} photos d’une même voiture",
        "من {count} صور للسيارة نفسها",
    ),
    "unreadable": ("Cannot be read", "Illisible", "لا يمكن قراءتها"),
    "none_given": (
        "Choose some photos first.",
        "Choisissez d’abord des photos.",
        "اختر صورًا أولًا.",
    ),
    # The model
    "knows": ("It knows {count} cars", "Il connaît {count} voitures", "يعرف {count} سيارة"),
    "search": ("Search", "Chercher", "ابحث"),
    "how_good": ("How good it is", "Sa qualité", "مدى جودته"),
    "good_photos": ("photos", "photos", "الصور"),
    "good_count": ("count", "nombre", "العدد"),
    "good_right": ("right at first", "juste du premier coup", "صحيحة من أول مرة"),
    "where_fails": ("Where it fails", "Là où il échoue", "أين يخطئ"),
    "fails_text": (
        "It names only the cars of this list, and a car that is not in it may be taken for one that "
        "is. It is weakest at small cars in a wide scene and between years of one model. "
        "Do not use it to judge people by their cars.",
        "Il ne nomme que les voitures de cette liste ; une autre peut être prise pour l’une d’elles. "
        "Il est le plus faible pour de petites voitures dans une scène large et entre les "
        "années d’un même modèle. Ne l’utilisez pas pour juger des personnes d’après leur voiture.",
        "لا يسمّي إلا سيارات هذه القائمة، وقد يظن غيرها واحدة منها. وأضعف ما يكون مع السيارات الصغيرة "
        "في مشهد واسع وبين سنوات الطراز الواحد. لا تستعمله للحكم على الناس من سياراتهم.",
    ),
    "answered_by": (
        "Answered by {source}, revision {revision}.",
        "Réponses de {source}, révision {revision}.",
        "يجيب {source}، الإصدار {revision}.",
    ),
    "card": ("Model card", "Fiche du modèle", "بطاقة النموذج"),
    "not_measured": (
        "No measurements lie beside this checkpoint; its card may have them.",
        "Aucune mesure n’accompagne ce modèle ; sa fiche en a peut-être.",
        "لا توجد قياسات مع هذا النموذج، وقد تكون في بطاقته.",
    ),
}

TRANSLATIONS: dict[str, dict[str, str]] = {
    code: {key: said[number] for key, said in _SAID.items()}
    for number, code in enumerate(LANGUAGES)
}


@dataclass(frozen=True)
class Language:
    """One of the languages.

    Attributes:
        code: "en", "fr" or "ar".
    """

    code: str = "en"

    @property
    def direction(self) -> str:
        """Which way it is written: "ltr" or "rtl"."""
        return "rtl" if self.code in _RIGHT_TO_LEFT else "ltr"

    @property
    def attributes(self) -> str:
        """What says so of a part of the page, in HTML."""
        return f'lang="{self.code}" dir="{self.direction}"'

    def say(self, key: str, **values: object) -> str:
        """A sentence, with its places filled; text, not HTML."""
        return TRANSLATIONS[self.code][key].format(**values)

    def html(self, key: str, **values: object) -> str:
        """The same as HTML: what is filled in is escaped, and keeps its own direction."""
        told = {name: f"<bdi>{html.escape(str(value))}</bdi>" for name, value in values.items()}
        return html.escape(TRANSLATIONS[self.code][key], quote=False).format(**told)

    def percent(self, share: float) -> str:
        """A share, 0 to 1, as it is read; nothing is ever quite sure, nor quite impossible."""
        if share >= 0.995:
            return self.say("over", percent=self.say("percent", number=99))
        if share < 0.005:
            return self.say("under", percent=self.say("percent", number=1))
        return self.say("percent", number=f"{100 * share:.0f}")

    def joined(self, names: Sequence[str]) -> str:
        """Names in a row."""
        return ("، " if self.code == "ar" else ", ").join(names)

    @classmethod
    def asked_for(cls, accept_language: str | None) -> "Language":
        """The first language of an Accept-Language header, if the page speaks it; else English.

        As gradio does in the browser, which shows English where its own first language is not
        spoken.
        """
        first = (accept_language or "").split(",")[0].split(";")[0].strip().lower()
        code = first.split("-")[0]
        return cls(code) if code in LANGUAGES else cls()
