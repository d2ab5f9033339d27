"""How long before the first declined call do the alerts come, at how many false pages a week?"""
